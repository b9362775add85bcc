"""Limits on a file that intake reads, so that a small file cannot fill the memory or the disk.

Each limit lies far beyond what transactions need; `processing/README.md` lists them.
"""

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

COLUMNS = 2_000
HEADER_BYTES = 1 << 16
ROW_BYTES = 1 << 20  # of a CSV file; an open quote may span this much
CELL_BYTES = 1 << 12  # of a column that the contract names
TEXT_LENGTH = 256  # characters of an id or a category, as in the API
CONTENT_LENGTH = 1 << 16  # characters of a refused row's content
EXPANSION, EXPANSION_FREE = 100, 64 << 20  # times a gzip file's size that its text may take, beyond the free bytes
ROWS_PER_BYTE, ROWS_FREE = 8, 1_000_000  # a Parquet file has no more rows than bits, beyond the free rows
CHUNK_BYTES = 1 << 30  # of one column in one row group of a Parquet file, decompressed
MEMORY_BYTES = 1 << 29  # that reading may add to the process


@contextmanager
def bounded_memory(more: int = MEMORY_BYTES) -> Iterator[None]:
    """Let this process allocate at most so many bytes more; an allocation beyond raises MemoryError.

    For readers of foreign files: a file that expands while it is decoded ends in an error about that file, not in a
    machine out of memory. Without /proc (elsewhere than on Linux) nothing is bounded.
    """
    status = Path("/proc/self/statm")
    if not status.exists():
        yield
        return
    pa.allocate_buffer(1 << 16)  # Arrow's allocator reserves a gigabyte of addresses at its first use
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = int(status.read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE") + more
    present = [each for each in (soft, hard) if each != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_AS, (min([limit, *present]), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
