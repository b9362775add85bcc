"""What a store's profiles hold, whichever store it is."""

import sqlite3
from contextlib import closing
from typing import Any

from processing.store.dynamo.profile_items import profile_in, shard_in
from processing.store.dynamo.store import DynamoStore
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
    assert isinstance(store, DynamoStore)
    pages = store.calls.dynamodb.get_paginator("scan").paginate(TableName=store.calls.table)
    items = [item for page in pages for item in page["Items"]]
    horizons, rows = {}, []
    for kind in ("profile", "shard"):
        for item in items:
            if item["sk"]["S"] != kind:
                continue
            entity, _, key = item["pk"]["S"].split("/", 2 if kind == "shard" else 1)[-1].partition("/")
            layout = store.plan.layouts[entity]
            if kind == "profile":
                profile = profile_in(layout, item, store.table.last_facts)
                horizons[entity, key] = profile.horizon_us
            else:
                profile = shard_in(layout, item, horizons[entity, key])
            if profile.newest_us:
                rows.append([entity, key, *_content(profile)])
    return sorted(rows)


def _content(profile: Profile) -> list[Any]:
    tiles = [
        [size, list(each.numbers), list(map(list, each.values))]
        for part in (profile.settled.tiles, profile.live)
        for size, each in part.items()
        if each
    ]
    frauds = profile.frauds
    return [profile.horizon_us, tiles, sorted(frauds.settled), sorted(frauds.reported.values())]
