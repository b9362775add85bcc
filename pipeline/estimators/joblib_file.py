"""Reads `model.joblib`, also one written when classes of Fraudline were in modules of other names.

A joblib file is a pickle: reading it runs code. Callers check first that they may, see `pipeline.registry`.
"""

import io
from typing import Any

from joblib.numpy_pickle import NumpyUnpickler
from joblib.numpy_pickle_utils import _validate_fileobject_and_memmap

from pipeline.estimators.legacy_names import current_module
from pipeline.estimators.own_code import NO_CODE, OwnCode


class _Unpickler(NumpyUnpickler):  # type: ignore[misc]  # joblib ships no types
    def find_class(self, module: str, name: str) -> Any:
        return super().find_class(current_module(module), name)


def read_joblib(data: bytes, code: bytes | None = None) -> Any:
    """The object in the bytes of a joblib file, compressed or not. Raises whatever the objects raise when unpickled.

    `code`: the archive of the modules that came with it, which are imported for it alone.
    """
    own = OwnCode.from_bytes(code) if code else NO_CODE
    source = _validate_fileobject_and_memmap(io.BytesIO(data), "", None)  # it decompresses, as joblib.load does
    with own.importable(), source as (file, _):
        return _Unpickler("", file, True).load()
