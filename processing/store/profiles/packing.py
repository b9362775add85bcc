"""Profiles as bytes: a header, then the settled tiles, the frauds and the live tiles, each packed by itself."""

import struct
import sys

from processing.errors import Damaged
from processing.store.profiles.frauds import Frauds
from processing.store.profiles.layout import Layout
from processing.store.profiles.packed_tiles import pack_tiles, unpack_tiles
from processing.store.profiles.profile import Profile
from processing.store.profiles.settled_tiles import SettledTiles

VERSION = 1
HEADER = struct.Struct("<BqqII")  # version, horizon, end of the newest settled tile, bytes of settled tiles and frauds


def pack(profile: Profile) -> bytes:
    """The profile as bytes."""
    settled, frauds = profile.settled, profile.frauds.packed()
    header = HEADER.pack(VERSION, profile.horizon_us, settled.newest_us, len(settled.data), len(frauds))
    return b"".join([header, settled.data, frauds, pack_tiles(profile.layout, profile.live)])


def unpack(layout: Layout, data: bytes) -> Profile:
    """The profile in some bytes. In a column that they lack it has no events. Raises Damaged."""
    if data[:1] != bytes([VERSION]) or sys.byteorder != "little":
        raise Damaged("a profile in the online store is of another version; a run sets it again")
    _, horizon_us, newest_us, settled, frauds = HEADER.unpack_from(data)
    ends = HEADER.size + settled, HEADER.size + settled + frauds
    profile = Profile(layout, horizon_us)
    profile.settled = SettledTiles(layout, data[HEADER.size : ends[0]], newest_us)
    if frauds:
        profile.frauds = Frauds.unpack(data[ends[0] : ends[1]])
    profile.live = unpack_tiles(layout, data[ends[1] :])
    return profile
