"""Machine code that comes with the image: compiled as it is built, read where nothing can be written.

Numba looks for compiled code only in folders that it may write to, but a container's root filesystem is read-only.
`NUMBA_CACHE_LOCATOR_CLASSES=pipeline.scorer.compiled.Shipped` makes it read what lies beside the source all the same;
`python -m pipeline.scorer.compiled` puts it there. `NUMBA_CPU_NAME` must be the same then and now.
"""

from typing import Any, Self

from numba.core.caching import InTreeCacheLocator

from pipeline.scorer.contributions import compiled_contributions
from pipeline.scorer.forest import compiled_walk


class Shipped(InTreeCacheLocator):
    """Numba's cache beside the source, whether or not it can be written."""

    @classmethod
    def from_function(cls, py_func: Any, py_file: str) -> Self:
        """The cache of a function, by its file."""
        return cls(py_func, py_file)


if __name__ == "__main__":
    compiled_walk()
    compiled_contributions()
