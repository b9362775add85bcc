"""Profiles as bytes: a header that names the columns, then all integers, then all other values, compressed."""

import json
import sys
import zlib
from array import array
from collections.abc import Iterator

from processing.errors import Damaged
from processing.store.profiles.frauds import Frauds
from processing.store.profiles.layout import Layout
from processing.store.profiles.profile import Profile
from processing.store.profiles.tile_list import TileList, is_bytes, neutral_values

VERSION = b"\x01"
COMPRESSION = 1  # of zlib: higher ones take much longer and save little
WORD = 8  # bytes of an integer


def pack(profile: Profile) -> bytes:
    """The profile as bytes."""
    integers: list[array[int]] = []
    texts: list[bytes] = []
    for tiles in (profile.settled, profile.live):
        for each in tiles.values():
            integers.append(each.numbers)
            for values in each.values:
                if isinstance(values, list):
                    texts += values
                else:
                    integers.append(values)  # type: ignore[arg-type]
    frauds = profile.frauds.arrays()
    header = {
        "horizon": profile.horizon_us,
        "columns": [[column.name, int(is_bytes(column))] for column in profile.layout.columns],
        "sizes": list(profile.settled),
        "tiles": [[len(each) for each in tiles.values()] for tiles in (profile.settled, profile.live)],
        "frauds": [len(each) for each in frauds],
        "lengths": [len(text) for text in texts],
    }
    words = b"".join([each.tobytes() for each in (*integers, *frauds)])
    planes = [words[place::WORD] for place in range(WORD)]  # the high bytes of small integers are all the same
    head = json.dumps(header, separators=(",", ":")).encode()
    return VERSION + zlib.compress(b"".join([head, b"\n", *planes, *texts]), COMPRESSION)


def unpack(layout: Layout, data: bytes) -> Profile:
    """The profile in some bytes. In a column that they lack it has no events. Raises Damaged."""
    if data[:1] != VERSION or sys.byteorder != "little":
        raise Damaged("a profile in the online store is of another version; `fraudline home repair` sets it again")
    head, _, body = zlib.decompress(data[1:]).partition(b"\n")
    header = json.loads(head)
    columns, sizes = header["columns"], header["sizes"]
    integers = 1 + sum(1 for _, of_bytes in columns if not of_bytes)
    words = sum(map(sum, header["tiles"])) * integers + sum(header["frauds"])
    read = _Reader(body, words, header["lengths"])
    profile = Profile(layout, header["horizon"])
    for tiles, counts in zip((profile.settled, profile.live), header["tiles"], strict=True):
        for size, count in zip(sizes, counts, strict=True):
            numbers = read.integers(count)
            found = {name: read.texts(count) if of_bytes else read.integers(count) for name, of_bytes in columns}
            if size in tiles and count:
                values = [found.get(column.name) or neutral_values(column, count) for column in layout.columns]
                tiles[size] = TileList(layout.columns, numbers, values)
    profile.frauds = Frauds.of_arrays([read.integers(count) for count in header["frauds"]])
    return profile


class _Reader:
    """Reads the values behind the header, in the order in which they were written."""

    def __init__(self, body: bytes, words: int, lengths: list[int]) -> None:
        mixed = bytearray(words * WORD)
        for place in range(WORD):
            mixed[place::WORD] = body[place * words : (place + 1) * words]
        self._words, self._at = array("q", bytes(mixed)), 0
        self._texts = self._split(body, words * WORD, lengths)

    @staticmethod
    def _split(body: bytes, start: int, lengths: list[int]) -> Iterator[bytes]:
        for length in lengths:
            yield body[start : start + length]
            start += length

    def integers(self, count: int) -> "array[int]":
        self._at += count
        return self._words[self._at - count : self._at]

    def texts(self, count: int) -> list[bytes]:
        return [next(self._texts) for _ in range(count)]
