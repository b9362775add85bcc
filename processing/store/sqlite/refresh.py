"""A refresh of the SQLite store: set the tiles before the horizon from the tables, and count the events after it."""

import json
import sqlite3
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import AbstractContextManager
from itertools import groupby

from processing.durations import HOUR_US
from processing.features.state_plan import StatePlan
from processing.store.decisions import Event
from processing.store.refresh_data import Comparison, StoredTile
from processing.store.sqlite.counting import count_again, count_event, live_events, note_tail, seen_by
from processing.store.sqlite.labels import forget_label, is_counted, mark
from processing.store.sqlite.rows import content_of, known_decision, tail_event_of
from processing.store.sqlite.schema import fact, note_labelled, set_fact
from processing.store.sqlite.tiles import add_fraud, set_tiles, stored_levels, table_of

Transaction = Callable[[], AbstractContextManager[sqlite3.Connection]]

TILES_AT_ONCE = 5_000  # in one transaction: the API waits some milliseconds at most
EVENTS_AT_ONCE = 500  # of the tail


def refresh(
    transaction: Transaction,
    plan: StatePlan,
    horizon: int,
    tiles: Iterable[Sequence[StoredTile]],
    tail: Sequence[Event],
    reports_read: int,
    frauds: Collection[Event],
    comparison: Comparison,
    labelled_us: int,
) -> None:
    """See `OnlineStore.refresh`. Each `transaction` writes; other writers may come in between."""
    known = set(frauds)
    with transaction() as db:
        number = _begin(db, plan, horizon, tail, reports_read, known, comparison)
    for start in range(0, len(tail), EVENTS_AT_ONCE):
        with transaction() as db:
            _count_tail(db, plan, tail[start : start + EVENTS_AT_ONCE], horizon, reports_read, known)
    for batch in tiles:
        for start in range(0, len(batch), TILES_AT_ONCE):
            with transaction() as db:
                _set_tiles(db, plan, batch[start : start + TILES_AT_ONCE], number)
    with transaction() as db:
        _delete_stale(db, plan, horizon, number)
        ids = json.dumps([event.transaction_id for event in tail])
        db.execute("DELETE FROM tail WHERE transaction_id NOT IN (SELECT value FROM json_each(?))", [ids])
        note_labelled(db, labelled_us)
        set_fact(db, "done", number)


def _begin(
    db: sqlite3.Connection,
    plan: StatePlan,
    horizon: int,
    tail: Sequence[Event],
    reports_read: int,
    known: set[Event],
    comparison: Comparison,
) -> int:
    """Move the horizon, so that the API no longer changes the hours before it; returns the number of the refresh."""
    previous = fact(db, "horizon")
    decisions = (known_decision(db, key) for key in comparison.displaced)
    displaced = [decision.event for decision in decisions if decision and _displace(db, plan, decision.event)]
    if horizon < previous:
        _count_anew(db, plan, horizon, tail)
    else:
        count_again(db, plan, horizon, [event for event in displaced if event.hour >= horizon])
    db.execute("INSERT OR IGNORE INTO facts SELECT 'done', value FROM facts WHERE name = 'refresh'")
    number = fact(db, "refresh") + 1
    facts = {"horizon": horizon, "refresh": number, "read": comparison.read_up_to, "pending": comparison.pending}
    for name, value in (facts | {"began": time.time_ns() // 1000}).items():
        set_fact(db, name, value)
    _relabel(db, plan, horizon, reports_read, known)
    return number


def _set_tiles(db: sqlite3.Connection, plan: StatePlan, tiles: Sequence[StoredTile], number: int) -> None:
    """Set tiles for the refresh of that number."""
    for entity, some in groupby(tiles, key=lambda each: each.entity):
        rows = [(each.key, each.level, each.number, number, *each.tile) for each in some]
        set_tiles(db, plan.entities[entity], plan.windows[entity], rows)


def _delete_stale(db: sqlite3.Connection, plan: StatePlan, horizon: int, number: int) -> None:
    """Delete the tiles before the horizon that the refresh of that number did not set."""
    for entity, windows in zip(plan.entities, plan.windows, strict=True):
        for level in stored_levels(windows):
            first = horizon * HOUR_US // windows.levels[level]
            stale = f"DELETE FROM {table_of(entity)} WHERE level = ? AND number < ? AND refresh <> ?"
            db.execute(stale, (level, first, number if level else -1))


def _displace(db: sqlite3.Connection, plan: StatePlan, event: Event) -> bool:
    """Note that a decided event does not count, as the tables have another under its id; whether that is new."""
    if not db.execute("INSERT OR IGNORE INTO displaced VALUES (?)", [event.transaction_id]).rowcount:
        return False
    forget_label(db, plan, event)
    return True


def _count_anew(db: sqlite3.Connection, plan: StatePlan, horizon: int, tail: Sequence[Event]) -> None:
    """Count the hours from an earlier horizon on: the events of the tables, and the decisions that the tables lack."""
    for entity, windows in zip(plan.entities, plan.windows, strict=True):
        for level in stored_levels(windows):
            first = horizon * HOUR_US // windows.levels[level]
            db.execute(f"DELETE FROM {table_of(entity)} WHERE level = ? AND number >= ?", (level, first))
    db.execute("DELETE FROM labels WHERE time_us >= ?", [horizon * HOUR_US])
    db.execute("DELETE FROM tail")
    for event in tail:
        note_tail(db, event, content_of(event))
    in_tail = {event.transaction_id for event in tail}
    for event in live_events(db, horizon):
        count_event(db, plan, event)
        if event.transaction_id not in in_tail and (decision := known_decision(db, event.transaction_id)):
            mark(db, plan, event, bool(decision.is_fraud))


def _newer_labels(db: sqlite3.Connection, reports_read: int) -> dict[Event, bool]:
    """The labels of decided, counted events that were reported since the tables were read."""
    newer = "SELECT transaction_id, is_fraud FROM reports WHERE number > ? ORDER BY number"
    labels: dict[Event, bool] = {}
    for key, label in dict(db.execute(newer, [reports_read])).items():
        decision = known_decision(db, key)
        assert decision is not None  # a report needs a decision
        if is_counted(db, decision.event):
            labels[decision.event] = bool(label)
    return labels


def _relabel(db: sqlite3.Connection, plan: StatePlan, horizon: int, reports_read: int, known: set[Event]) -> None:
    """From here on count the labels of the tables, and on top of them what newer reports change."""
    db.execute("DELETE FROM frauds")
    db.execute("DELETE FROM labels WHERE time_us < ?", [horizon * HOUR_US])
    for row in db.execute("SELECT transaction_id, content, NULL FROM labels WHERE fraud").fetchall():
        for each in seen_by(plan, tail_event_of(row)):
            add_fraud(db, plan.entities[each.entity], each, 1)
    for event in known:
        if event.hour < horizon:
            mark(db, plan, event, True)
    for event, label in _newer_labels(db, reports_read).items():
        if event.hour < horizon:
            mark(db, plan, event, label)


def _count_tail(
    db: sqlite3.Connection,
    plan: StatePlan,
    events: Sequence[Event],
    horizon: int,
    reports_read: int,
    known: set[Event],
) -> None:
    """Count events from the horizon on, unless they are counted already, and label them. Their tiles are not set."""
    newer, displaced = _newer_labels(db, reports_read), []
    for event in events:
        key = event.transaction_id
        if not db.execute("SELECT 1 FROM tail WHERE transaction_id = ?", [key]).fetchone():
            decision = known_decision(db, key)
            differs = decision is None or decision.event != event
            if differs:
                count_event(db, plan, event)
            if decision and differs and _displace(db, plan, decision.event) and decision.event.hour >= horizon:
                displaced.append(decision.event)
        note_tail(db, event, content_of(event))
        mark(db, plan, event, newer.get(event, event in known))
    count_again(db, plan, horizon, displaced)
