"""Tiles of all sizes as bytes: what they hold, then all integers, then all other values, compressed."""

import functools
import json
import zlib
from array import array
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from processing.errors import Damaged
from processing.features.tiles import Column
from processing.store.profiles.layout import Layout
from processing.store.profiles.tile_list import TileList, Values, is_bytes, neutral_values

COMPRESSION = 1  # of zlib: higher ones take much longer and save little
WORD, COUNT = 8, 4  # bytes of an integer, and of a number of things


class _Shape(NamedTuple):
    """What packed tiles hold, as the first line of them says, and where a layout finds its columns there.

    integers, texts: how many columns hold integers and bytes
    places: each column of the layout, whether it holds bytes, and its index among those that do or do not; None if
        it is not there
    """

    sizes: Sequence[int]
    integers: int
    texts: int
    places: Sequence[tuple[Column, bool, int | None]]


def pack_tiles(layout: Layout, tiles: Mapping[int, TileList]) -> bytes:
    """Tiles by their size as bytes; none at all as b""."""
    if not any(map(len, tiles.values())):
        return b""
    empty = TileList(layout.columns)
    lists = [tiles.get(size, empty) for size in layout.kept_us]
    words: list[bytes] = []
    texts: list[bytes] = []
    for each in lists:
        words.append(each.numbers.tobytes())
        for values in each.values:
            if isinstance(values, list):
                texts += values
            else:
                words.append(values.tobytes())  # type: ignore[attr-defined]
    counts = array("I", [*map(len, lists), *map(len, texts)])
    return zlib.compress(
        b"".join([_first_line(layout), b"\n", counts.tobytes(), planes(b"".join(words)), *texts]), COMPRESSION
    )


def unpack_tiles(layout: Layout, data: bytes) -> dict[int, TileList]:
    """Packed tiles by their size; only sizes of the layout that have any. Raises Damaged.

    Tiles that lack a column of the layout have no events in it.
    """
    if not data:
        return {}
    body = decompress(data)
    line, _, body = body.partition(b"\n")
    shape = _shape_of(layout, line)
    counts, at = array("I", body[: COUNT * len(shape.sizes)]), COUNT * len(shape.sizes)
    total = sum(counts)
    lengths = array("I", body[at : at + COUNT * total * shape.texts])
    at += COUNT * len(lengths)
    count = total * (1 + shape.integers)
    words, texts = integers_of(body[at : at + WORD * count]), _split(body, at + WORD * count, lengths)
    tiles: dict[int, TileList] = {}
    word = text = 0
    for size, count in zip(shape.sizes, counts, strict=True):
        if count and size in layout.kept_us:
            values: list[Values] = []
            for column, of_bytes, place in shape.places:
                if place is None:
                    values.append(neutral_values(column, count))
                elif of_bytes:
                    values.append(texts[text + place * count : text + (place + 1) * count])
                else:
                    start = word + (place + 1) * count
                    values.append(words[start : start + count])
            tiles[size] = TileList(layout.columns, words[word : word + count], values)
        word += (1 + shape.integers) * count
        text += shape.texts * count
    return tiles


def decompress(data: bytes) -> bytes:
    """What was compressed. Raises Damaged."""
    try:
        return zlib.decompress(data)
    except zlib.error as error:
        raise Damaged(f"a profile in the online store is damaged ({error}); a run sets it again") from error


def planes(words: bytes) -> bytes:
    """The first bytes of all integers, then the second ones, and so on: the high ones are mostly the same."""
    return np.frombuffer(words, np.uint8).reshape(-1, WORD).T.tobytes()


def integers_of(data: bytes) -> "array[int]":
    """The integers in their `planes`."""
    return array("q", np.frombuffer(data, np.uint8).reshape(WORD, -1).T.tobytes())


@functools.lru_cache(1_000)
def _first_line(layout: Layout) -> bytes:
    columns = [[column.name, int(is_bytes(column))] for column in layout.columns]
    return json.dumps([list(layout.kept_us), columns], separators=(",", ":")).encode()


@functools.lru_cache(1_000)
def _shape_of(layout: Layout, line: bytes) -> _Shape:
    sizes, columns = json.loads(line)
    kinds: tuple[dict[str, int], dict[str, int]] = {}, {}
    for name, of_bytes in columns:
        kinds[of_bytes][name] = len(kinds[of_bytes])
    places = [(each, is_bytes(each), kinds[is_bytes(each)].get(each.name)) for each in layout.columns]
    return _Shape(sizes, len(kinds[0]), len(kinds[1]), places)


def _split(body: bytes, start: int, lengths: "array[int]") -> list[bytes]:
    texts = []
    for length in lengths:
        texts.append(body[start : start + length])
        start += length
    return texts
