"""What a file that is taken in may hold at most, so that a small one cannot fill the memory or the disk.

Each limit lies far beyond what transactions need; README.md in this folder lists them.
"""

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

COLUMNS = 2_000
HEADER_BYTES = 1 << 16
ROW_BYTES = 1 << 20  # of a text file; an open quote may take in so much
CELL_BYTES = 1 << 12  # of a column that the contract names
TEXT_LENGTH = 256  # characters of an id or a category, as in the API
SHOWN_BYTES = 1 << 16  # of a refused row's content
EXPANSION, EXPANSION_FREE = 100, 64 << 20  # how much longer than its gzip file a text may be, beyond the free bytes
ROWS_PER_BYTE, ROWS_FREE = 8, 1_000_000  # a Parquet file has no more rows than bits, beyond the free rows
CHUNK_BYTES = 1 << 30  # of one column in one row group of a Parquet file, decompressed
MEMORY_BYTES = 1 << 29  # what reading may add to the process


@contextmanager
def bounded_memory(more: int = MEMORY_BYTES) -> Iterator[None]:
    """Let this process take so many bytes more at most; an allocation beyond raises MemoryError.

    For readers of foreign files: whatever expands while it is decoded ends in an error of the file, not of the
    machine. Where the system does not say how much a process has, nothing is bounded.
    """
    status = Path("/proc/self/statm")
    if not status.exists():
        yield
        return
    pa.allocate_buffer(1 << 16)  # Arrow's allocator sets a gigabyte of addresses aside at its first use
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = int(status.read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE") + more
    known = [limit for limit in (soft, hard) if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_AS, (min([wanted, *known]), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
