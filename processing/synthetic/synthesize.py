"""Synthetic transactions in the shape of the `transactions` contract: legitimate customers and four kinds of fraud.

Customers shop near home, at their usual hours and in their usual channels. They travel, go on sprees and sometimes buy
something expensive. Fraud overlaps with all of that: terminals that leak cards for weeks, stolen cards, tested cards,
account takeovers. Both change slowly with the calendar, so models become outdated.

Everything is a function of the seed and the calendar day, not of the first day: a later month can be generated on its
own, with the same rows as in a longer period.
"""

import os
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from processing.errors import BadInput
from processing.synthetic.patterns import account_takeovers, leaked_cards, stolen_cards, tested_cards
from processing.synthetic.population import (
    CHANNELS,
    DAY,
    LEGITIMATE,
    ONLINE,
    TRIPS,
    DayRows,
    Habits,
    Pattern,
    Population,
    cents_of,
    draw_habits,
    episodes,
    pick_terminals,
    seconds_of_day,
)
from processing.tables.parquet import WRITE

PATTERNS = tuple(pattern.name.lower() for pattern in Pattern if pattern)


def synthesize(
    start: date,
    days: int,
    customers: int = Population.customers,
    terminals: int = Population.terminals,
    seed: int = Population.seed,
    *,
    patterns: bool = False,
) -> pa.Table:
    """The transactions of `days` days from `start` (UTC) on, ordered by time; about 0.66 a customer a day.

    Columns: transaction_id, event_time (timestamp[us, UTC], whole seconds), amount (two decimals, > 0),
    customer_id, terminal_id, channel, is_fraud (int8), and with `patterns` also pattern: which of PATTERNS a fraud
    belongs to, null for a legitimate transaction. The same arguments give the same rows, and two periods with the same
    customers, terminals and seed have the same rows for the days they share. Raises BadInput.
    """
    population = Population(customers, terminals, seed)
    if days < 1:
        raise BadInput(f"days is {days}, expected 1 or more")
    if start.year < 1970 or start.toordinal() + days > date(2200, 1, 1).toordinal():
        raise BadInput(f"{days} days from {start}: expected days between 1970 and 2199")
    habits = draw_habits(population)
    customer_ids = pa.array([f"C{code:06d}" for code in range(customers)])
    terminal_ids = pa.array([f"T{code:06d}" for code in range(terminals)])
    channels, names = pa.array(CHANNELS), pa.array([None, *PATTERNS])
    tables = []
    for day in (start.toordinal() + i for i in range(days)):
        rows = _day(population, habits, day)
        prefix = f"{date.fromordinal(day):%Y%m%d}-{seed}-"
        midnight = (day - date(1970, 1, 1).toordinal()) * DAY
        columns = {
            "transaction_id": pa.array([f"{prefix}{i:06d}" for i in range(len(rows.customer))], pa.string()),
            "event_time": pa.array((midnight + rows.second) * 1_000_000).cast(pa.timestamp("us", "UTC")),
            "amount": rows.cents / 100.0,
            "customer_id": customer_ids.take(pa.array(rows.customer)),
            "terminal_id": terminal_ids.take(pa.array(rows.terminal)),
            "channel": channels.take(pa.array(rows.channel)),
            "is_fraud": (rows.pattern != Pattern.LEGITIMATE).astype(np.int8),
        }
        if patterns:
            columns["pattern"] = names.take(pa.array(rows.pattern))
        tables.append(pa.table(columns))
    return pa.concat_tables(tables).combine_chunks()


def write(table: pa.Table, path: str | Path) -> None:
    """Write a table as .csv, .csv.gz or .parquet, by the suffix; times in CSV are ISO 8601 with a Z.

    The file gets its name only when it is complete, since a folder may be watched. Raises BadInput.
    """
    path = Path(path)
    suffix = next((end for end in (".csv", ".csv.gz", ".parquet") if path.name.endswith(end)), None)
    if suffix is None:
        raise BadInput(f"cannot write {path.name!r}: its name should end in .csv, .csv.gz or .parquet")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    if suffix == ".parquet":
        pyarrow.parquet.write_table(table, part, **WRITE)
    else:
        for i, column in enumerate(table.schema):
            if pa.types.is_timestamp(column.type):
                seconds = table[i].cast(pa.timestamp("s", "UTC"))
                table = table.set_column(i, column.name, pc.strftime(seconds, "%Y-%m-%dT%H:%M:%SZ"))
        with pa.CompressedOutputStream(part, "gzip") if suffix == ".csv.gz" else pa.OSFile(str(part), "wb") as sink:
            pyarrow.csv.write_csv(table, sink, pyarrow.csv.WriteOptions(quoting_style="none"))
    os.replace(part, path)


def _day(population: Population, habits: Habits, day: int) -> DayRows:
    """All transactions of a day, ordered by time."""
    legitimate = _legitimate_rows(population, habits, day)
    frauds = (
        stolen_cards(population, habits, day),
        tested_cards(population, habits, day),
        account_takeovers(population, habits, day),
    )
    rows = DayRows(*map(np.concatenate, zip(leaked_cards(population, legitimate, day), *frauds, strict=True)))
    order = np.argsort(rows.second, kind="stable")
    return DayRows(*(column[order] for column in rows))


def _legitimate_rows(population: Population, habits: Habits, day: int) -> DayRows:
    random, when = population.random(LEGITIMATE, day), date.fromordinal(day)
    rate = habits.rate * ((1.15, 0.9, 0.92, 0.98, 1.0, 1.15, 1.05)[when.weekday()])
    rate = rate * habits.weekend if when.weekday() >= 5 else rate
    payday = when.day >= 26 or when.day <= 2
    purchases = random.poisson(rate * (1.2 if payday else 0.95))
    customer = np.repeat(np.arange(population.customers), purchases)
    second = seconds_of_day(random, habits, customer)
    # A spree: more purchases within the hour.
    spree = np.repeat(np.arange(len(customer)), np.where(random.random(len(customer)) < 0.03, 2, 0))
    customer = np.concatenate((customer, customer[spree]))
    second = np.concatenate((second, np.minimum(second[spree] + random.integers(60, 3600, len(spree)), DAY - 1)))
    n = len(customer)

    odds = habits.online[customer] + 0.9 * np.tanh((day - date(2026, 6, 1).toordinal()) / 400)
    online = random.random(n) < 1 / (1 + np.exp(-odds))
    channel = np.where(online, ONLINE, random.random(n) < habits.contactless[customer])
    base, price = np.arange(population.customers), np.zeros(population.customers)
    trips = episodes(population, TRIPS, day, 0.004, population.customers, 3, 12)
    # Travellers shop like locals, but spend more.
    base[trips.subject], price[trips.subject] = trips.other, 0.8 * trips.strength
    terminal = pick_terminals(random, habits, base[customer], online)
    large = np.where(random.random(n) < 0.02, random.uniform(0.8, 2.2, n), 0.0)
    logarithm = habits.spend[customer] + habits.price[terminal] + price[customer] + large + (0.05 if payday else 0.0)
    logarithm += habits.spread[customer] * random.normal(size=n)
    small = online & (random.random(n) < 0.06)  # apps, songs, parking
    cents = cents_of(np.where(small, random.normal(0.9, 0.6, n), logarithm))
    return DayRows(customer, terminal, second, cents, channel.astype(np.int64), np.full(n, Pattern.LEGITIMATE))
