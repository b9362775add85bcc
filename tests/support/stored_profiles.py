"""What a store's profiles hold, whichever store it is."""

import sqlite3
from contextlib import closing
from typing import Any

from processing.store.interface import OnlineStore
from processing.store.profiles.packing import unpack
from processing.store.profiles.profile import Profile
from processing.store.sqlite.store import SqliteStore


def stored_profiles(store: OnlineStore) -> list[list[Any]]:
    """The content of every profile, in the order of entities and keys."""
    if isinstance(store, SqliteStore):
        with closing(sqlite3.connect(store.path)) as db:
            rows = db.execute("SELECT entity, key, data FROM profiles").fetchall()
        return sorted([entity, key, *_content(unpack(store.plan.layouts[entity], data))] for entity, key, data in rows)
    raise NotImplementedError(type(store))


def _content(profile: Profile) -> list[Any]:
    tiles = [
        [size, list(each.numbers), list(map(list, each.values))]
        for part in (profile.settled, profile.live)
        for size, each in part.items()
    ]
    frauds = profile.frauds
    return [profile.horizon_us, tiles, sorted(frauds.settled), sorted(frauds.reported.values())]
