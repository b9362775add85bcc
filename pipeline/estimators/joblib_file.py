"""Reads `model.joblib`, also one written when classes of Fraudline were in modules of other names.

A joblib file is a pickle: reading it runs code. Callers check first that they may, see `pipeline.registry`.
"""

import io
from typing import Any

from joblib.numpy_pickle import NumpyUnpickler
from joblib.numpy_pickle_utils import _validate_fileobject_and_memmap

from pipeline.estimators.legacy_names import current_module


class _Unpickler(NumpyUnpickler):  # type: ignore[misc]  # joblib ships no types
    def find_class(self, module: str, name: str) -> Any:
        return super().find_class(current_module(module), name)


def read_joblib(data: bytes) -> Any:
    """The object in the bytes of a joblib file, compressed or not. Raises whatever the objects raise when unpickled."""
    with _validate_fileobject_and_memmap(io.BytesIO(data), "", None) as (
        file,
        _,
    ):  # it decompresses, as joblib.load does
        return _Unpickler("", file, True).load()
