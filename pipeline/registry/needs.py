"""What a model file needs wherever it is loaded: the distributions that its objects' modules come from.

A joblib file holds references to classes and functions by the names of their modules. Where such a module is missing
the file cannot be read; where it is of another version, it can be read into something that scores differently.

Imports the standard library alone: who serves looks here before it reads a model.
"""

import pickle
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions, version
from typing import Any

NEEDS, HOMELESS = "estimator_needs", "estimator_modules"  # entries of training.json and of the manifest
# Arrays are data that any NumPy reads, or says that it cannot; what is our own comes with the code that loads it.
PASSED_OVER = {"numpy", "pipeline", "processing", "serving", "triggers", "__main__"} | sys.stdlib_module_names


def needs_of(model: Any) -> dict[str, Any]:
    """What loading this object from a pickle takes: {NEEDS: {distribution: version}, HOMELESS: [module]}.

    The second are modules of no installed distribution, such as a user's own file. Nothing is unpickled.
    """
    modules = sorted(module for module in _modules_of(model) if module.partition(".")[0] not in PASSED_OVER)
    installed, needs, homeless = packages_distributions(), {}, set()
    for module in modules:
        names = installed.get(module.partition(".")[0], [])
        if len(names) > 1:  # a namespace that several share
            names = [name for name in names if _has(name, module)] or names
        needs.update({name: version(name) for name in names})
        if not names:
            homeless.add(module)
    return {NEEDS: dict(sorted(needs.items())), HOMELESS: sorted(homeless)}


def lacking(manifest: Mapping[str, Any]) -> str:
    """What this process lacks to load the model file of a manifest, with what to do; empty if nothing.

    A manifest of before there was such an entry names the version of scikit-learn. Raises KeyError or TypeError for
    one without either.
    """
    for name, made_with in dict(manifest.get(NEEDS) or {"scikit-learn": manifest["libraries"]["scikit-learn"]}).items():
        try:
            ours = f"has {version(name)}"
        except PackageNotFoundError:
            ours = "does not have it"
        if ours != f"has {made_with}":
            return (
                f"was made with {name} {made_with}, this server {ours}: install {name}=={made_with} or train it again"
            )
    return ""


class _Named(pickle.Pickler):
    """Pickles into nothing, and keeps the names of the modules of all that it meets."""

    def __init__(self) -> None:
        super().__init__(_Nothing(), 5, buffer_callback=lambda _: None)
        self.modules: set[str] = set()

    def persistent_id(self, met: Any) -> None:
        by_name = hasattr(met, "__qualname__")  # classes and functions, those of Cython too
        module = getattr(met if by_name else type(met), "__module__", None)
        if isinstance(module, str):
            self.modules.add(module)


class _Nothing:
    def write(self, data: bytes) -> int:
        return len(data)


def _modules_of(model: Any) -> set[str]:
    pickler = _Named()
    pickler.dump(model)
    return pickler.modules


def _has(name: str, module: str) -> bool:
    path = module.replace(".", "/")
    files = (str(file) for file in distribution(name).files or ())
    return any(file.startswith((f"{path}/", f"{path}.")) for file in files)
