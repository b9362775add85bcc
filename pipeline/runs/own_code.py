"""Packs the code of an estimator: its module or package, and the modules beside it that it imports."""

import ast
import sys
from collections.abc import Collection, Iterator, Mapping
from importlib.metadata import packages_distributions
from importlib.util import find_spec
from pathlib import Path

from pipeline.definition.defaults import ESTIMATOR
from pipeline.estimators.own_code import NO_CODE, OwnCode
from processing.errors import BadInput
from processing.storage.home import Home
from processing.storage.local import LocalHome
from processing.storage.run_code import store_code

OURS = {"pipeline", "processing", "serving", "triggers"}


def with_own_code(home: Home, parameters: Mapping[str, str]) -> dict[str, str]:
    """The parameters of a run, with the code of their estimator stored in the home. Raises BadInput."""
    if "Estimator" not in parameters or "Code" in parameters:
        return dict(parameters)
    estimator, code = pack(parameters["Estimator"], only_here=isinstance(home, LocalHome))
    return {**parameters, "Estimator": estimator, **code_parameter(home, code)}


def code_parameter(home: Home, code: OwnCode) -> dict[str, str]:
    """The parameter that names a run's own code, which is stored in the home; none without code."""
    return {"Code": store_code(home, code.to_bytes())} if code.files else {}


def pack(estimator: str, *, only_here: bool = True) -> tuple[str, OwnCode]:
    """An estimator as `module:factory`, and the code that it brings along.

    estimator: `module:factory`; or `path:factory`, where the path is that of a .py file or of a package's folder

    A module of ours or of an installed distribution brings nothing: the image has it. Any other is packed, a package
    with all its modules, together with what it imports from the folder it is in. Raises BadInput if it cannot be
    parsed, has the name of an installed one, or is not found, unless `only_here` is false: the image may have it.
    """
    target, _, factory = estimator.rpartition(":")
    if not target or not factory:
        raise BadInput(f"the estimator {estimator!r} names no factory; give it as module:factory, e.g. {ESTIMATOR}")
    installed = OURS | sys.stdlib_module_names | packages_distributions().keys()
    if "/" in target or target.endswith(".py"):
        path = Path(target)
        if not path.is_dir() and not (path.is_file() and path.suffix == ".py"):
            raise BadInput(f"the estimator {estimator!r}: there is no file or package {target}")
        path = path.resolve()
        if path.stem in installed:
            raise BadInput(f"the estimator {estimator!r} has the name of an installed module: rename {path.name}")
        return f"{path.stem}:{factory}", OwnCode(_sources(path.parent, path.stem, installed))
    root = target.partition(".")[0]
    folder = None if root in installed else _folder_of(root)
    if folder is None and root not in installed and only_here:
        raise BadInput(
            f"there is no module {root!r} for the estimator {estimator!r}; give the path of its file, e.g. "
            "notebooks/estimators.py:forest"
        )
    return estimator, OwnCode(_sources(folder, root, installed)) if folder else NO_CODE


def _folder_of(root: str) -> Path | None:
    """The folder that a module or package at the top is in; None if there is no such module, or it has no source."""
    try:
        spec = find_spec(root)
    except ValueError:  # it is imported already, and was made by hand
        spec = None
    if spec and spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations))).parent
    if spec and spec.origin and spec.origin.endswith(".py"):
        return Path(spec.origin).parent
    return None


def _sources(folder: Path, root: str, installed: Collection[str]) -> dict[str, str]:
    """The sources of a module or package in a folder, and of all those that it needs from there, by path."""
    sources: dict[str, str] = {}
    waiting, known = [root], {root}
    while waiting:
        name = waiting.pop()
        for path in _files(folder, name):
            place = path.relative_to(folder).as_posix()
            sources[place], imported = _read(path)
            new = {each for each in imported - known if each not in installed and _files(folder, each)}
            known |= new
            waiting += sorted(new)
    return sources


def _files(folder: Path, root: str) -> list[Path]:
    """The files of a module or package at the top."""
    package, module = folder / root, folder / f"{root}.py"
    if package.is_dir():
        files = sorted(package.rglob("*.py"))
        return [path for path in files if not any(part.startswith(".") for part in path.relative_to(folder).parts)]
    return [module] if module.is_file() else []


def _read(path: Path) -> tuple[str, set[str]]:
    """A file's source, and the names of modules at the top that it imports."""
    try:
        source = path.read_text(encoding="utf-8")
        return source, set(_imported(ast.parse(source, str(path))))
    except (SyntaxError, ValueError) as error:
        raise BadInput(f"{path} is not Python that can be read: {error}") from None


def _imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]
