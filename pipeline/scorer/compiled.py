"""Machine code shipped with the image: compiled at build time, read where nothing can be written.

Numba reads compiled code only from folders that it may write to, but a container's root filesystem is read-only. With
`NUMBA_CACHE_LOCATOR_CLASSES=pipeline.scorer.compiled.Shipped` it also reads the cache beside the source, which
`python -m pipeline.scorer.compiled` fills. `NUMBA_CPU_NAME` must be the same at both times.
"""

from typing import Any, Self

from numba.core.caching import InTreeCacheLocator

from pipeline.scorer.contributions import compiled_contributions
from pipeline.scorer.forest import compiled_walk


class Shipped(InTreeCacheLocator):
    """Numba's cache beside the source, writable or not."""

    @classmethod
    def from_function(cls, py_func: Any, py_file: str) -> Self:
        """The cache of a function, by its file."""
        return cls(py_func, py_file)


if __name__ == "__main__":
    compiled_walk()
    compiled_contributions()
