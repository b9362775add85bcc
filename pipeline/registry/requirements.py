"""The distributions that a model file requires: those that the modules of its objects come from.

A joblib file refers to classes and functions by the names of their modules. If such a module is missing, the file
cannot be read; if it has another version, the file may be read into something that scores differently.

Imports only the standard library: a server looks here before it reads a model.
"""

import pickle
import platform
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions, version
from typing import Any

# Entries of training.json and of the manifest: distributions, and modules of no distribution.
REQUIREMENTS, LOCAL_MODULES = "estimator_needs", "estimator_modules"
LIBRARIES = ("scikit-learn", "numpy", "scipy", "joblib", "pyarrow")
# Arrays are data: any NumPy reads them, or says that it cannot. Our own modules come with the code that loads the file.
EXEMPT = {"numpy", "pipeline", "processing", "serving", "triggers", "__main__"} | sys.stdlib_module_names


def library_versions() -> dict[str, str]:
    """The versions of Python and of the libraries that scores depend on."""
    return {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}}


def requirements_of(model: Any) -> dict[str, Any]:
    """What unpickling this object requires: {REQUIREMENTS: {distribution: version}, LOCAL_MODULES: [module]}.

    Local modules belong to no installed distribution, such as a user's own file. Nothing is unpickled.
    """
    modules = sorted(module for module in _modules_of(model) if module.partition(".")[0] not in EXEMPT)
    installed, requirements, local = packages_distributions(), {}, set()
    for module in modules:
        names = installed.get(module.partition(".")[0], [])
        if len(names) > 1:  # a namespace package that several distributions share
            names = [name for name in names if _provides(name, module)] or names
        requirements.update({name: version(name) for name in names})
        if not names:
            local.add(module)
    return {REQUIREMENTS: dict(sorted(requirements.items())), LOCAL_MODULES: sorted(local)}


def unmet_requirement(manifest: Mapping[str, Any]) -> str:
    """The first requirement of a version's model file that this process does not meet, and the fix; "" if none.

    A manifest from before this entry existed names the version of scikit-learn. Raises KeyError or TypeError if it
    has neither.
    """
    required = manifest.get(REQUIREMENTS) or {"scikit-learn": manifest["libraries"]["scikit-learn"]}
    for name, expected in dict(required).items():
        try:
            ours = f"has {version(name)}"
        except PackageNotFoundError:
            ours = "does not have it"
        if ours != f"has {expected}":
            return f"was made with {name} {expected}, this server {ours}: install {name}=={expected} or train it again"
    return ""


class _ModuleRecorder(pickle.Pickler):
    """Pickles into nothing and records the module of every object."""

    def __init__(self) -> None:
        super().__init__(_Discard(), 5, buffer_callback=lambda _: None)
        self.modules: set[str] = set()

    def persistent_id(self, value: Any) -> None:
        by_name = hasattr(value, "__qualname__")  # classes and functions, also those of Cython
        module = getattr(value if by_name else type(value), "__module__", None)
        if isinstance(module, str):
            self.modules.add(module)


class _Discard:
    def write(self, data: bytes) -> int:
        return len(data)


def _modules_of(model: Any) -> set[str]:
    pickler = _ModuleRecorder()
    pickler.dump(model)
    return pickler.modules


def _provides(name: str, module: str) -> bool:
    path = module.replace(".", "/")
    files = (str(file) for file in distribution(name).files or ())
    return any(file.startswith((f"{path}/", f"{path}.")) for file in files)
