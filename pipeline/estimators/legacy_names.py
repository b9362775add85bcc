"""Modules that earlier versions of Fraudline had under other names, which stored files still use.

A joblib file names the module of every class in it, and a run's parameters name the estimator's module.
"""

LEGACY_MODULES = {
    "pipeline.binner": "pipeline.estimators.binner",
    "pipeline.model": "pipeline.estimators.trees",
}


def current_module(name: str) -> str:
    """Today's name of a module; a name that never changed is returned as it is."""
    return LEGACY_MODULES.get(name, name)
