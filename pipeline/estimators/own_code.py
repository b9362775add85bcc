"""The modules that an experiment brings along: one archive, imported from memory and only within a `with` block.

Importing them runs them. Training does that; evaluation and serving only for a joblib model, and only where the
operator allows those. Imports only the standard library besides our errors.
"""

import hashlib
import sys
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.abc import InspectLoader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from io import BytesIO
from threading import RLock
from types import CodeType, ModuleType

from processing.errors import BadInput

LARGEST = 5_000_000  # bytes of all modules
MOST = 1000  # modules
_importing = RLock()  # the modules of two archives may have the same names


@dataclass(frozen=True)
class OwnCode:
    """Python modules. files: their source by path, such as "helpers/amounts.py"."""

    files: Mapping[str, str]

    @classmethod
    def from_bytes(cls, archive: bytes) -> "OwnCode":
        """The modules in an archive. Raises BadInput for one that is too large or holds no modules."""
        try:
            with zipfile.ZipFile(BytesIO(archive)) as file:
                entries = file.infolist()
                if len(entries) > MOST or sum(entry.file_size for entry in entries) > LARGEST:
                    raise BadInput(f"own code is limited to {MOST} modules and {LARGEST // 1_000_000} MB")
                return cls({entry.filename: file.read(entry).decode() for entry in entries})
        except (
            zipfile.BadZipFile,
            zlib.error,
            EOFError,
            UnicodeDecodeError,
            NotImplementedError,
            RuntimeError,
        ) as error:
            raise BadInput(f"the archive of own code cannot be read: {error}") from None

    def to_bytes(self) -> bytes:
        """The archive; the same modules give the same bytes. Raises BadInput if it is too large."""
        file = BytesIO()
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for path, source in sorted(self.files.items()):
                archive.writestr(zipfile.ZipInfo(path), source.encode())
        self.from_bytes(file.getvalue())
        return file.getvalue()

    @property
    def digest(self) -> str:
        """The SHA-256 of the archive."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    @property
    def roots(self) -> frozenset[str]:
        """The names of its modules and packages at the top."""
        return frozenset(path.partition("/")[0].removesuffix(".py") for path in self.files)

    @contextmanager
    def importable(self) -> Iterator[None]:
        """While the `with` block runs, `import` finds these modules, before any others of their names.

        At its end they are forgotten, and modules of the same names are back. One block runs at a time.
        """
        if not self.files:
            yield
            return
        with _importing:
            others = self._forget()
            finder = _Finder(self.files)
            sys.meta_path.insert(0, finder)
            try:
                yield
            finally:
                sys.meta_path.remove(finder)
                self._forget()
                sys.modules.update(others)

    def _forget(self) -> dict[str, ModuleType]:
        names = [name for name in sys.modules if name.partition(".")[0] in self.roots]
        return {name: sys.modules.pop(name) for name in names}


NO_CODE = OwnCode({})


class _Finder(MetaPathFinder):
    def __init__(self, files: Mapping[str, str]) -> None:
        self.files = files

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        place = fullname.replace(".", "/")
        for file in (f"{place}/__init__.py", f"{place}.py"):
            if file in self.files:
                return spec_from_loader(fullname, _Loader(file, self.files[file]))
        if any(file.startswith(f"{place}/") for file in self.files):  # a package without an __init__.py
            return spec_from_loader(fullname, _Loader(f"{place}/__init__.py", ""))
        return None


class _Loader(InspectLoader):
    def __init__(self, file: str, source: str) -> None:
        self.file, self.source = file, source

    def is_package(self, fullname: str) -> bool:
        return self.file.endswith("/__init__.py")

    def get_source(self, fullname: str) -> str:
        return self.source

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.source, f"<own code>/{self.file}")
