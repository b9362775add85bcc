"""Connections to the SQLite file of a store, shared by the threads of a process."""

import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from processing.store.interface import StoreBusy, StoreUnavailable

LOG_PAGES = 4_000  # of the write-ahead log; beyond this a commit copies them into the database itself


class Connections:
    """A pool of connections to one file. Every call raises StoreUnavailable after `timeout` seconds.

    They are not one per thread: a server's pool ends idle threads and starts others, each of which would open its own.
    `pragma` is executed on each new connection.
    """

    def __init__(self, path: Path, timeout: float, pragma: str = "PRAGMA synchronous = NORMAL") -> None:
        self.path, self.timeout, self._pragma = path, timeout, pragma
        self._one_writer = threading.Lock()
        self._idle: deque[sqlite3.Connection] = deque()
        self._impatient: deque[sqlite3.Connection] = deque()  # those that do not wait for other writers
        self._file: tuple[int, int] | None = None  # device and inode, once the file exists

    def pin(self) -> None:
        """From now on use the file that is at the path now, and no other."""
        self._file = self._file_at_path()

    @contextmanager
    def reading(self, wait: bool = True) -> Iterator[sqlite3.Connection]:
        """A connection. Without `wait` it does not wait for writers and raises StoreBusy."""
        idle = self._idle if wait else self._impatient
        if self._file is not None and self._file_at_path() != self._file:
            raise StoreUnavailable(
                f"the online store {self.path} was removed or replaced while it was open; if it is gone, run "
                "`fraudline home repair`, then restart every process that uses it"
            )
        try:
            db = idle.pop() if idle else self.connect(self.timeout if wait else 0.0)
            try:
                yield db
            finally:
                if db.in_transaction:
                    db.close()
                else:
                    idle.append(db)
        except sqlite3.DatabaseError as error:  # busy, full, unreadable, not a database
            kind = StoreUnavailable if wait or error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY else StoreBusy
            raise kind(f"the online store {self.path} does not answer: {error}") from error

    @contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """A connection on which everything in the block reads the same state of the database."""
        with self.reading() as db:
            db.execute("BEGIN")
            try:
                yield db
            finally:
                db.execute("COMMIT")

    @contextmanager
    def writing(self, wait: bool = True) -> Iterator[sqlite3.Connection]:
        """A connection in a write transaction, committed at the end of the block, or rolled back if that raises."""
        # A writer that waits in SQLite sleeps for milliseconds at a time; writers of one process queue here instead.
        if not self._one_writer.acquire(timeout=self.timeout if wait else 0.0):
            kind = StoreUnavailable if wait else StoreBusy
            raise kind(f"the online store {self.path} does not answer: other writers keep it busy")
        try:
            with self.reading(wait) as db:
                db.execute("BEGIN IMMEDIATE")
                try:
                    yield db
                    db.execute("COMMIT")
                except BaseException:
                    if db.in_transaction:
                        db.execute("ROLLBACK")
                    raise
        finally:
            self._one_writer.release()

    def connect(self, timeout: float) -> sqlite3.Connection:
        """A new connection, outside the pool."""
        mode = "rwc" if self._file is None else "rw"  # a file that has gone must not be created again, empty
        address = f"{self.path.absolute().as_uri()}?mode={mode}"
        db = sqlite3.connect(address, timeout=timeout, isolation_level=None, check_same_thread=False, uri=True)
        db.execute(self._pragma)
        db.execute(f"PRAGMA wal_autocheckpoint = {LOG_PAGES}")
        return db

    def switch_to_wal(self, db: sqlite3.Connection) -> None:
        """Switch to a write-ahead log. SQLite does not wait while another process does the same, so this does."""
        ends = time.monotonic() + self.timeout
        while True:
            try:
                db.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError:
                if time.monotonic() >= ends:
                    raise
                time.sleep(0.01)

    def close(self) -> None:
        """Close the idle connections. New ones open when they are needed."""
        for idle in (self._idle, self._impatient):
            while idle:
                idle.pop().close()

    def _file_at_path(self) -> tuple[int, int] | None:
        """Device and inode of the file at the path now."""
        try:
            status = os.stat(self.path)
        except OSError:
            return None
        return status.st_dev, status.st_ino
