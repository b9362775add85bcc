"""The items that a refresh sets: an entity's counters of a day, and the frauds of the tables."""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence

from processing.store.decisions import Event
from processing.store.dynamo.attributes import digest_of, number
from processing.store.dynamo.layout import DAY_HOURS, FRAUD_SHARDS, Item, fraud_shard_of, frauds_key
from processing.store.refresh_data import Bucket


def sorted_buckets(db: sqlite3.Connection, buckets: Iterable[Sequence[Bucket]]) -> Iterator[Bucket]:
    """The buckets by entity, key and hour. They are sorted in a scratch database, as memory may not hold them."""
    db.execute("PRAGMA synchronous = OFF")
    db.execute("PRAGMA journal_mode = OFF")
    db.execute("CREATE TABLE buckets (entity INTEGER, key TEXT, hour INTEGER, n TEXT, s TEXT, q TEXT, f TEXT, g TEXT)")
    for batch in buckets:
        db.executemany("INSERT INTO buckets VALUES (?, ?, ?, ?, ?, ?, ?, ?)", batch)
    rows = db.execute("SELECT * FROM buckets ORDER BY entity, key, hour")
    return (Bucket(entity, key, hour, *map(int, sums)) for entity, key, hour, *sums in rows)


def counters_of(hours: Iterable[Bucket]) -> Item:
    """The attributes of one day's buckets of an entity."""
    counters: Item = {}
    for bucket in hours:
        within = bucket.hour % DAY_HOURS
        counters |= {f"{name}{within}": number(getattr(bucket, name)) for name in "nsqfg"}
    return counters


def fraud_items(frauds: Iterable[Event]) -> list[Item]:
    """The items that list the frauds of the tables."""
    digests: list[set[str]] = [set() for _ in range(FRAUD_SHARDS)]
    for event in frauds:
        digests[fraud_shard_of(event.transaction_id)].add(digest_of(event))
    return [frauds_key(shard) | ({"ids": {"SS": sorted(ids)}} if ids else {}) for shard, ids in enumerate(digests)]
