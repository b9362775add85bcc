"""A home: one folder or bucket prefix that holds all state of an installation.

Keys are relative paths with forward slashes (``models/latest.json``), the same for every kind of home.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Entry:
    """A stored object: its key, size in bytes, and time of last change in seconds since 1970.

    tag: differs between two objects stored under the key one after the other
    """

    key: str
    size: int
    modified: float
    tag: str = ""


class Home(ABC):
    """Objects by key, with one conditional write. `open_home` opens the home at an address."""

    url: str

    @abstractmethod
    def read_tagged(self, key: str) -> tuple[bytes, str]:
        """The object and its entity tag, which changes with its content. Raises NotFound."""

    @abstractmethod
    def write(self, key: str, data: bytes) -> None:
        """Store an object, completely or not at all."""

    @abstractmethod
    def write_if(self, key: str, data: bytes, tag: str | None) -> None:
        """Store an object only if its tag is still `tag` (None: only if there is none yet), in one atomic step.

        Raises Conflict if another writer came first.
        """

    @abstractmethod
    def entries(self, prefix: str) -> list[Entry]:
        """Every object below a prefix that ends in '/', sorted by key."""

    @abstractmethod
    def folders(self, prefix: str) -> list[str]:
        """Names of the folders directly below a prefix, sorted."""

    @abstractmethod
    def move(self, source: str, target: str) -> None:
        """Rename an object. Raises NotFound."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove an object, if it exists."""

    @abstractmethod
    def remove(self, prefix: str) -> None:
        """Remove every object below a prefix that ends in '/'."""

    @abstractmethod
    def claim(self, entry: Entry, key: str) -> None:
        """Put a listed object aside under another key, where a new one stored under its own key does not replace it.

        `finish` or `release` ends the claim. Raises Conflict if it is not the listed object any more, and NotFound.
        """

    @abstractmethod
    def finish(self, entry: Entry, claimed: str, key: str) -> None:
        """Move a claimed object to its final key. An object stored under its first key meanwhile stays there."""

    @abstractmethod
    def release(self, claimed: str, key: str) -> str:
        """Return a claimed object to its first key, or to a similar one if that is in use; the key."""

    @abstractmethod
    def copy(self, source: str, target: str) -> None:
        """Store an object under a second key. Neither may be changed afterwards. Raises NotFound."""

    @abstractmethod
    def upload(self, path: Path, key: str) -> None:
        """Store a local file under a key."""

    @abstractmethod
    @contextmanager
    def local_file(self, key: str) -> Iterator[Path]:
        """The object as a readable local file while a `with` block runs. Raises NotFound."""
        yield Path()

    def read(self, key: str) -> bytes:
        """The object's bytes. Raises NotFound."""
        return self.read_tagged(key)[0]

    @abstractmethod
    def key_of(self, address: str) -> str:
        """The key of an address that `url_of` gave. Raises BadInput for one outside the home."""

    def url_of(self, key: str) -> str:
        """The full address of a key."""
        return f"{self.url}/{key}"
