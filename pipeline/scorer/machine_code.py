"""Compiles a function with Numba, or reads it from Numba's cache."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


def compile_function(function: Callable[..., int], signature: str) -> Callable[..., int]:
    """The function as machine code that runs without the GIL.

    In the signature f, i, q and b are read-only arrays of float64, uint32, int64 and bool, F is a two-dimensional one
    of float64; w and W are f and F that the function writes to.
    """
    # Numba looks for its linear algebra, which takes a third of the load time and is not used here.
    with _hidden("scipy"):
        import numba  # half a second, which only a process with a packed model should spend

        arrays = {
            letter: numba.types.Array(kind, 2 if letter in "FW" else 1, "C", readonly=letter not in "wW")
            for letter, kind in zip(
                "fiqbFwW", (numba.float64, numba.uint32, numba.int64, numba.boolean, *[numba.float64] * 3), strict=True
            )
        }
        result, parameters = signature.rstrip(")").split("(")
        kinds = [arrays[name] if name in arrays else getattr(numba, name) for name in parameters.split(", ")]
        typed = getattr(numba, result)(*kinds)
        machine_code: Callable[..., int]
        try:
            machine_code = numba.njit(typed, cache=True, nogil=True, error_model="numpy")(function)
        except (RuntimeError, OSError):  # no folder that Numba may write to, or a full disk
            machine_code = numba.njit(typed, nogil=True, error_model="numpy")(function)
        return machine_code


@contextmanager
def _hidden(package: str) -> Iterator[None]:
    """Inside the block, a package that is not yet imported cannot be."""
    absent = package not in sys.modules
    if absent:
        sys.modules[package] = None  # type: ignore[assignment] # the import system takes this for "not found"
    try:
        yield
    finally:
        if absent:
            del sys.modules[package]
