"""Stored JSON documents: any content is either read or refused with a clear error."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processing.errors import Damaged, NotFound
from processing.storage.documents import parse_document, read_document
from processing.storage.open import open_home


@given(st.binary(max_size=200))
def test_any_bytes_are_read_as_an_object_or_reported_as_damaged(data: bytes) -> None:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        value = None
    if isinstance(value, dict):
        assert parse_document(data, "somewhere/latest.json", "do this") == value
    else:
        with pytest.raises(Damaged, match=r"somewhere/latest\.json is damaged: .*; do this"):
            parse_document(data, "somewhere/latest.json", "do this")


def test_a_document_truncated_anywhere_is_damaged(tmp_path: Path) -> None:
    home, whole = open_home(tmp_path), json.dumps({"version": "one", "history": [1, 2]}).encode()
    home.write("a.json", whole)
    assert read_document(home, "a.json", "x") == json.loads(whole)
    for end in range(len(whole)):
        home.write("a.json", whole[:end])
        with pytest.raises(Damaged):
            read_document(home, "a.json", "restore it")
    with pytest.raises(NotFound):
        read_document(home, "b.json", "x")


def test_a_deeply_nested_document_is_damaged() -> None:
    with pytest.raises(Damaged):
        parse_document(b"[" * 100_000, "a.json", "restore it")
