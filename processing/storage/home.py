"""A home: one folder (or bucket prefix) that holds all state of an installation.

Keys are relative paths with forward slashes (``models/latest.json``), the same wherever the home lies.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Entry:
    """A stored object: its key, size in bytes, time of last change (seconds since 1970).

    `tag` tells two objects apart that were stored under the key one after the other.
    """

    key: str
    size: int
    modified: float
    tag: str = ""


class Home(ABC):
    """Objects by key, with one conditional write. `open_home` gives the right one for an address."""

    url: str

    @abstractmethod
    def read_tagged(self, key: str) -> tuple[bytes, str]:
        """The object and its entity tag, which changes with its content. Raises NotFound."""

    @abstractmethod
    def write(self, key: str, data: bytes) -> None:
        """Store an object, whole or not at all."""

    @abstractmethod
    def write_if(self, key: str, data: bytes, tag: str | None) -> None:
        """Store an object only if its tag is still `tag` (None: only if there is none yet).

        Raises Conflict when another writer came first. One atomic step.
        """

    @abstractmethod
    def entries(self, prefix: str) -> list[Entry]:
        """Every object below a prefix that ends in '/', in the order of their keys."""

    @abstractmethod
    def folders(self, prefix: str) -> list[str]:
        """Names of the folders directly below a prefix, sorted."""

    @abstractmethod
    def move(self, source: str, target: str) -> None:
        """Rename an object. Raises NotFound."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove an object, if it is there."""

    @abstractmethod
    def remove(self, prefix: str) -> None:
        """Remove every object below a prefix that ends in '/'."""

    @abstractmethod
    def claim(self, entry: Entry, key: str) -> None:
        """Put a listed object aside under another key, where whoever stores a new one under its own does not reach it.

        Raises Conflict if it is not the listed object any more, and NotFound. What has been claimed is finished by
        `settle` or given back by `release`.
        """

    @abstractmethod
    def settle(self, entry: Entry, claimed: str, key: str) -> None:
        """Move a claimed object to its final key. What was stored under its first one meanwhile stays there."""

    @abstractmethod
    def release(self, claimed: str, key: str) -> str:
        """Give a claimed object back under its first key; gives the key, which is another one if that is taken."""

    @abstractmethod
    def copy(self, source: str, target: str) -> None:
        """Store what is under one key under a further one. Neither may be changed afterwards. Raises NotFound."""

    @abstractmethod
    def upload(self, path: Path, key: str) -> None:
        """Store a local file under a key."""

    @abstractmethod
    @contextmanager
    def local_file(self, key: str) -> Iterator[Path]:
        """The object as a readable local file for the time of a with block. Raises NotFound."""
        yield Path()

    def read(self, key: str) -> bytes:
        """The object's bytes. Raises NotFound."""
        return self.read_tagged(key)[0]

    @abstractmethod
    def key_of(self, address: str) -> str:
        """The key of an address as `url_of` gives it. Raises BadInput for one that lies elsewhere."""

    def url_of(self, key: str) -> str:
        """The full address of a key."""
        return f"{self.url}/{key}"
