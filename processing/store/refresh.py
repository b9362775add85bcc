"""Bring the online store up to date with the tables: the profiles of all entities up to the horizon."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from processing.contract import CLOCK_SKEW
from processing.durations import DAY_US, HOUR_US
from processing.store.decisions import Event
from processing.store.horizon import DAY_HOURS, settled_up_to
from processing.store.interface import OnlineStore
from processing.store.profiles.layout import HOURS_KEPT_US
from processing.store.profiles.plan import ProfilePlan
from processing.store.profiles.spark_profiles import read_profiles, with_changed_keys, write_profiles
from processing.store.refresh_data import Reports, SettledProfile
from processing.store.tables_comparison import compare_with_tables

WHOLE_DAYS = 30  # after so many days a refresh sets all profiles, whatever was wrong with them
LATEST = 100  # decisions: some of them are dated about when they were made
SPARE_HOURS = 2 * int(CLOCK_SKEW.total_seconds()) // 3600  # the horizon may move back so far without losing a decision


class Source(NamedTuple):
    """The transactions that a refresh reads.

    recent: those of the days that profiles reach
    everything: all of them
    contents: a text that differs when the contents of the tables do
    changed_since: those that are new or gone since the tables had other contents, given by their text; None if that is
        not known
    """

    recent: DataFrame
    everything: DataFrame
    contents: str
    changed_since: Callable[[str], DataFrame | None] = lambda contents: None


class Basis(NamedTuple):
    """What a store was refreshed from, as text in `StoreState.basis`."""

    horizon: int
    contents: str  # of the tables
    plan: str  # digest of what profiles keep
    whole_day: int  # since 1970, of the last refresh that set all profiles

    @property
    def text(self) -> str:
        return " ".join(map(str, self))

    @classmethod
    def parse(cls, text: str) -> "Basis | None":
        """The basis in a text; None if there is none."""
        parts = text.split(" ")
        if len(parts) != len(cls._fields):
            return None
        horizon, contents, plan, whole_day = parts
        return cls(int(horizon), contents, plan, int(whole_day))


def refresh_store(
    store: OnlineStore, source: Source, reports: Reports, scratch: Path | str, *, now: datetime | None = None
) -> int:
    """Settle the store's profiles with the transactions of the tables; returns how many were set.

    Decided transactions that the tables lack are counted too. If it is known what has changed since the last refresh,
    only the profiles of those entities are set, but all of them every WHOLE_DAYS. Events of the last hours, which may
    not be over, are passed to the store one by one.
    """
    plan, keys = store.plan, store.plan.contract.key_names
    lookback = -(-plan.longest_us // HOUR_US)
    rows = source.recent.withColumn("us", F.unix_micros("event_time")).withColumn("hour", _hour(F.col("us")))
    now_hour = int((now or datetime.now(UTC)).timestamp()) // 3600
    horizon, labelled = _horizon(rows, lookback, now_hour)
    horizon = _divisible(horizon, store)
    if labelled is None:
        (labelled,) = source.everything.agg(_newest_label(F.unix_micros("event_time"))).first() or (None,)
    recorded = store.recorded_events((horizon - lookback - SPARE_HOURS) * HOUR_US)
    compared = compare_with_tables(recorded, reports, source.everything, plan, scratch)
    has = set(rows.columns)
    further = [F.col(name) if name in has else F.lit(None).alias(name) for name in plan.event_columns]
    data = rows.select("transaction_id", "us", "hour", "amount_minor", "is_fraud", *keys, *further)
    counted = data
    if compared.lacking is not None:
        counted = data.unionByName(compared.lacking.withColumn("hour", _hour(F.col("us"))))
    settled = counted.where(F.col("hour").between(horizon - lookback, horizon - 1))
    before, today = Basis.parse(store.state().basis), now_hour // DAY_HOURS
    basis = Basis(horizon, source.contents, plan.digest, today)
    changed = source.changed_since(before.contents) if before and _continues(basis, before) else None
    if before and changed is not None:
        basis = basis._replace(whole_day=before.whole_day)
    addresses = {}
    for index, entity in enumerate(plan.layouts):
        chosen = settled
        if changed is not None:
            chosen = with_changed_keys(settled, plan.key_names_of(entity), changed, compared.different)
        addresses[entity] = write_profiles(chosen, plan, entity, horizon, f"{scratch}/profiles-{index}")
    tail, count = data.where(F.col("hour") >= horizon), 0

    def batches() -> Iterator[list[SettledProfile]]:
        nonlocal count
        for batch in read_profiles(addresses):
            count += len(batch)
            yield batch

    store.refresh(
        horizon,
        batches(),
        _events(tail, plan),
        reports.mark,
        _events(tail.where("is_fraud = 1"), plan),
        compared.comparison,
        labelled or 0,
        whole=changed is None,
        basis=basis.text,
    )
    return count


def _continues(now: Basis, before: Basis) -> bool:
    """Whether a store lacks nothing but what changed in the tables."""
    recent = now.whole_day - before.whole_day < WHOLE_DAYS
    return before.plan == now.plan and before.horizon <= now.horizon and recent


def _horizon(rows: DataFrame, lookback: int, now_hour: int) -> tuple[int, int | None]:
    """The hour up to which the tables are settled, and the time of the newest label, if any."""
    hours = rows.groupBy("hour").agg(F.count("*").alias("rows"), _newest_label(F.col("us")).alias("labelled")).collect()
    labelled = max((row["labelled"] for row in hours if row["labelled"] is not None), default=None)
    return settled_up_to({row["hour"]: row["rows"] for row in hours}, lookback, now_hour), labelled


def _divisible(horizon: int, store: OnlineStore) -> int:
    """The horizon, or the end of its day if profiles may no longer hold that day's hours, by which they divide it."""
    in_days = any(DAY_US in layout.kept_us for layout in store.plan.layouts.values())
    newest_us = max((decision.event.time_us for decision in store.decisions(LATEST)), default=0)
    if in_days and newest_us - horizon * HOUR_US > HOURS_KEPT_US - DAY_US:
        return -(-horizon // DAY_HOURS) * DAY_HOURS
    return horizon


def _newest_label(us: Column) -> Column:
    return F.max(F.when(F.col("is_fraud").isNotNull(), us))


def _hour(us: Column) -> Column:
    return F.floor(us / HOUR_US).cast("long")


def _events(rows: DataFrame, plan: ProfilePlan) -> list[Event]:
    keys, extras = plan.contract.key_names, plan.event_columns
    return [
        Event(
            row["transaction_id"],
            row["us"],
            row["amount_minor"],
            tuple(row[key] for key in keys),
            tuple((name, row[name]) for name in extras),
        )
        for row in rows.collect()
    ]
