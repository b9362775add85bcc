"""Reads stored JSON documents. The error for a damaged one names the file, the fault and the remedy.

Imports only the standard library and the home: Lambda functions use it too.
"""

import json
from typing import Any

from processing.errors import Damaged
from processing.storage.home import Home


def read_document(home: Home, key: str, remedy: str) -> dict[str, Any]:
    """The JSON object stored under a key. `remedy`: what to do if it is damaged. Raises NotFound and Damaged."""
    return parse_document(home.read(key), home.url_of(key), remedy)


def parse_document(data: bytes, where: str, remedy: str) -> dict[str, Any]:
    """The JSON object in bytes read from `where`. Raises Damaged."""
    try:
        document = json.loads(data)
    except UnicodeDecodeError as error:
        raise Damaged(f"{where} is damaged: it is not UTF-8 at byte {error.start}; {remedy}") from None
    except json.JSONDecodeError as error:
        fault = f"{error.msg} at line {error.lineno}, column {error.colno}" if data.strip() else "it is empty"
        raise Damaged(f"{where} is damaged: {fault}; {remedy}") from None
    except RecursionError:
        raise Damaged(f"{where} is damaged: it is nested too deeply; {remedy}") from None
    if not isinstance(document, dict):
        raise Damaged(f"{where} is damaged: it is not a JSON object; {remedy}")
    return document
