"""Synthetic transactions in the shape of the `transactions` contract: honest customers, and four kinds of fraud.

Customers shop near home, at their hours, in their channels; they travel, go on sprees and buy something big now
and then. Fraud overlaps with all of that: terminals that leak cards for weeks, stolen cards, tested cards, taken
over accounts. Both change slowly with the calendar, so that a model ages.

Everything is a function of the seed and the calendar day, never of where the asking began: a later month can be
generated on its own and is the one that a longer asking would have had.
"""

import os
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

from processing.errors import BadInput

CHANNELS = ("chip", "contactless", "online")
ONLINE = CHANNELS.index("online")
DAY = 86_400  # seconds

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Population:
    """Who there is: numbers of customers and terminals, and the seed that they and all they do are drawn from."""

    customers: int = 5_000
    terminals: int = 2_000
    seed: int = 7

    def __post_init__(self) -> None:
        for name, least in (("customers", 1), ("terminals", 10), ("seed", 0)):
            if getattr(self, name) < least:
                raise BadInput(f"{name} is {getattr(self, name)}, expected {least} or more")

    def random(self, *purpose: int) -> np.random.Generator:
        """The stream of random numbers for one purpose, always the same."""
        return np.random.default_rng(np.random.SeedSequence([self.seed, *purpose]))


# The first number of a stream's purpose.
HABITS, HONEST, TRIPS, TERMINALS, STOLEN, TESTING, TAKEOVER, FASHION = range(8)


class Habits(NamedTuple):
    """What customers are used to, one row each, and what terminals are like."""

    rate: Floats  # purchases a day
    weekend: Floats  # factor on that at weekends
    spend: Floats  # mean and ...
    spread: Floats  # ... standard deviation of the logarithm of an amount
    hours: Floats  # [customers, 24] cumulative share of the day's hours
    online: Floats  # log-odds of buying online
    contactless: Floats  # share of contactless at a terminal
    shops: Ints  # [customers, k] terminals near home, the favourite first
    sites: Ints  # [customers, k] online shops, likewise
    price: Floats  # [terminals] what is added to the logarithm of an amount


class Rows(NamedTuple):
    """Transactions of one day: codes, the second of the day, the amount in cents."""

    customer: Ints
    terminal: Ints
    second: Ints
    cents: Ints
    channel: Ints
    fraud: Ints


class Spells(NamedTuple):
    """What lasts for days and goes on today: whom it befell, how strong it is (0 to 1), another one involved."""

    who: Ints
    strength: Floats
    other: Ints


def synthesize(
    start: date,
    days: int,
    customers: int = Population.customers,
    terminals: int = Population.terminals,
    seed: int = Population.seed,
) -> pa.Table:
    """The transactions of `days` days from `start` (UTC) on, ordered by time; about 0.66 a customer a day.

    Columns: transaction_id, event_time (timestamp[us, UTC], whole seconds), amount (two decimals, > 0),
    customer_id, terminal_id, channel, is_fraud (int8). The same arguments give the same rows, and two askings with
    the same customers, terminals and seed give the same rows for the days they share. Raises BadInput.
    """
    population = Population(customers, terminals, seed)
    if days < 1:
        raise BadInput(f"days is {days}, expected 1 or more")
    if start.year < 1970 or start.toordinal() + days > date(2200, 1, 1).toordinal():
        raise BadInput(f"{days} days from {start} on: expected days between 1970 and 2199")
    habits = draw_habits(population)
    names = pa.array([f"C{code:06d}" for code in range(customers)])
    places = pa.array([f"T{code:06d}" for code in range(terminals)])
    channels = pa.array(CHANNELS)
    tables = []
    for day in (start.toordinal() + i for i in range(days)):
        rows = _day(population, habits, day)
        prefix = f"{date.fromordinal(day):%Y%m%d}-{seed}-"
        midnight = (day - date(1970, 1, 1).toordinal()) * DAY
        columns = {
            "transaction_id": pa.array([f"{prefix}{i:06d}" for i in range(len(rows.customer))], pa.string()),
            "event_time": pa.array((midnight + rows.second) * 1_000_000).cast(pa.timestamp("us", "UTC")),
            "amount": rows.cents / 100.0,
            "customer_id": names.take(pa.array(rows.customer)),
            "terminal_id": places.take(pa.array(rows.terminal)),
            "channel": channels.take(pa.array(rows.channel)),
            "is_fraud": rows.fraud.astype(np.int8),
        }
        tables.append(pa.table(columns))
    return pa.concat_tables(tables).combine_chunks()


def write(table: pa.Table, path: str | Path) -> None:
    """Write a table as .csv, .csv.gz or .parquet, by the suffix; times in CSV are ISO 8601 with a Z.

    The file appears under its name when it is whole, since a folder may be watched. Raises BadInput.
    """
    path = Path(path)
    kind = next((suffix for suffix in (".csv", ".csv.gz", ".parquet") if path.name.endswith(suffix)), None)
    if kind is None:
        raise BadInput(f"cannot write {path.name!r}: its name should end in .csv, .csv.gz or .parquet")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    if kind == ".parquet":
        pyarrow.parquet.write_table(table, part)
    else:
        for i, column in enumerate(table.schema):
            if pa.types.is_timestamp(column.type):
                seconds = table[i].cast(pa.timestamp("s", "UTC"))
                table = table.set_column(i, column.name, pc.strftime(seconds, "%Y-%m-%dT%H:%M:%SZ"))
        with pa.CompressedOutputStream(part, "gzip") if kind == ".csv.gz" else pa.OSFile(str(part), "wb") as sink:
            pyarrow.csv.write_csv(table, sink, pyarrow.csv.WriteOptions(quoting_style="none"))
    os.replace(part, path)


def draw_habits(population: Population) -> Habits:
    """The habits of a population. Places lie in towns on a square of 100 km."""
    random, n, m = population.random(HABITS), population.customers, population.terminals
    towns = random.uniform(0, 100, (12, 2))
    share = random.dirichlet(np.full(12, 2.0))
    homes = towns[random.choice(12, n, p=share)] + random.normal(0, 4, (n, 2))
    sites = np.arange(m - max(1, m * 3 // 20), m)  # the last terminals are online shops
    places = towns[random.choice(12, sites[0], p=share)] + random.normal(0, 4, (sites[0], 2))
    radius = random.lognormal(1.0, 0.5, n)
    popularity = random.normal(0, 0.8, m)
    rate = random.gamma(2.0, 1.0, n) + 0.1
    peaks = np.where(random.random((n, 2)) < 0.07, 24.5, random.normal((12.0, 18.0), (2.0, 1.5), (n, 2)))
    near = np.exp(3.0 * (np.cos((np.arange(24) + 0.5 - peaks[:, :, None]) * (np.pi / 12)) - 1.0)).sum(axis=1) + 0.02
    return Habits(
        rate=0.57 * rate / rate.mean(),
        weekend=random.lognormal(0.1, 0.3, n),
        spend=random.normal(3.1, 0.5, n),
        spread=random.uniform(0.35, 0.75, n),
        hours=np.cumsum(near, axis=1) / near.sum(axis=1, keepdims=True),
        online=random.normal(-1.6, 1.0, n),
        contactless=random.beta(2.0, 1.5, n),
        shops=_favourites(random, popularity[: sites[0]], 15, homes, places, radius),
        sites=_favourites(random, popularity[sites], 8, homes, None, radius) + sites[0],
        price=random.normal(0, 0.3, m),
    )


def _favourites(
    random: np.random.Generator, popularity: Floats, many: int, homes: Floats, places: Floats | None, radius: Floats
) -> Ints:
    """Every customer's most liked places, [customers, many]: popular, near, and a matter of taste."""
    blocks = []
    for some in np.array_split(np.arange(len(homes)), -(-len(homes) // 500)):  # bounds the memory
        liked = popularity + random.gumbel(size=(len(some), len(popularity)))
        if places is not None:
            away = homes[some, None, :] - places
            liked -= np.hypot(away[..., 0], away[..., 1]) / radius[some, None]
        blocks.append(np.argsort(-liked, axis=1)[:, :many])
    return np.concatenate(blocks).astype(np.int64)


def _day(population: Population, habits: Habits, day: int) -> Rows:
    """All transactions of a day, ordered by time."""
    honest = _honest(population, habits, day)
    frauds = (_stolen(population, habits, day), _tested(population, habits, day), _takeovers(population, habits, day))
    rows = Rows(*map(np.concatenate, zip(_leaks(population, honest, day), *frauds, strict=True)))
    order = np.argsort(rows.second, kind="stable")
    return Rows(*(column[order] for column in rows))


def _honest(population: Population, habits: Habits, day: int) -> Rows:
    random, when = population.random(HONEST, day), date.fromordinal(day)
    rate = habits.rate * ((1.15, 0.9, 0.92, 0.98, 1.0, 1.15, 1.05)[when.weekday()])
    rate = rate * habits.weekend if when.weekday() >= 5 else rate
    payday = when.day >= 26 or when.day <= 2
    buys = random.poisson(rate * (1.2 if payday else 0.95))
    customer = np.repeat(np.arange(population.customers), buys)
    second = _seconds(random, habits, customer)
    # A spree: further purchases within the hour.
    spree = np.repeat(np.arange(len(customer)), np.where(random.random(len(customer)) < 0.03, 2, 0))
    customer = np.concatenate((customer, customer[spree]))
    second = np.concatenate((second, np.minimum(second[spree] + random.integers(60, 3600, len(spree)), DAY - 1)))
    n = len(customer)

    odds = habits.online[customer] + 0.9 * np.tanh((day - date(2026, 6, 1).toordinal()) / 400)
    online = random.random(n) < 1 / (1 + np.exp(-odds))
    channel = np.where(online, ONLINE, random.random(n) < habits.contactless[customer])
    base, price = np.arange(population.customers), np.zeros(population.customers)
    trips = _spells(population, TRIPS, day, 0.004, population.customers, 3, 12)
    base[trips.who], price[trips.who] = trips.other, 0.8 * trips.strength  # who travels shops like a local, for more
    terminal = _shop(random, habits, base[customer], online)
    large = np.where(random.random(n) < 0.02, random.uniform(0.8, 2.2, n), 0.0)
    logarithm = habits.spend[customer] + habits.price[terminal] + price[customer] + large + (0.05 if payday else 0.0)
    logarithm += habits.spread[customer] * random.normal(size=n)
    small = online & (random.random(n) < 0.06)  # apps, songs, parking
    cents = _cents(np.where(small, random.normal(0.9, 0.6, n), logarithm))
    return Rows(customer, terminal, second, cents, channel.astype(np.int64), np.zeros(n, np.int64))


def _leaks(population: Population, rows: Rows, day: int) -> Rows:
    """The day's rows, of which those with cards copied at a compromised terminal are frauds; all else is as usual."""
    random = population.random(TERMINALS, day)
    part = np.zeros(population.terminals)
    leaks = _spells(population, TERMINALS, day, 0.00016, population.terminals, 25, 45)
    part[leaks.who] = 0.65 + 0.35 * leaks.strength
    fraud = random.random(len(rows.customer)) < part[rows.terminal]
    return rows._replace(fraud=fraud.astype(np.int64))


def _stolen(population: Population, habits: Habits, day: int) -> Rows:
    """For about two weeks a thief uses the card too: elsewhere, for more, at other hours."""
    random = population.random(STOLEN, day)
    cards = _spells(population, STOLEN, day, 0.00007, population.customers, 10, 18)
    uses = np.repeat(np.arange(len(cards.who)), random.poisson(0.8 + 1.4 * cards.strength))
    customer, thief, n = cards.who[uses], cards.other[uses], len(uses)
    online = random.random(n) < 0.35 + 0.25 * _fashion(population, day, 0)
    terminal = _shop(random, habits, thief, online)
    more = random.normal(1.9 + 0.4 * _fashion(population, day, 1), 0.6, n)
    cents = _cents(habits.spend[customer] + habits.price[terminal] + more)
    second = np.where(random.random(n) < 0.4, random.integers(0, DAY, n), _seconds(random, habits, thief))
    channel = np.where(online, ONLINE, random.random(n) < 0.6)
    return Rows(customer, terminal, second, cents, channel.astype(np.int64), np.ones(n, np.int64))


def _tested(population: Population, habits: Habits, day: int) -> Rows:
    """A stolen number is tried with small amounts, minutes apart; then it is used."""
    random = population.random(TESTING, day)
    cards = random.integers(0, population.customers, random.poisson(0.00018 * population.customers))
    tries, uses = random.integers(3, 8, len(cards)), random.integers(1, 4, len(cards))
    burst = np.repeat(np.arange(len(cards)), tries + uses)
    place = np.arange(len(burst)) - np.repeat(np.cumsum(tries + uses) - tries - uses, tries + uses)
    customer, n = cards[burst], len(burst)
    begin = random.integers(0, DAY - 5400, len(cards))
    second = begin[burst] + place * 400 + random.integers(0, 400, n)
    small = random.normal(0.6 + 0.7 * _fashion(population, day, 2), 0.5, n)
    big = habits.spend[customer] + random.normal(1.3, 0.6, n)
    cents = _cents(np.where(place < tries[burst], small, big))
    terminal = _shop(random, habits, random.integers(0, population.customers, len(cards))[burst], np.full(n, True))
    return Rows(customer, terminal, second, cents, np.full(n, ONLINE), np.ones(n, np.int64))


def _takeovers(population: Population, habits: Habits, day: int) -> Rows:
    """For some nights somebody else orders with the customer's account."""
    random = population.random(TAKEOVER, day)
    accounts = _spells(population, TAKEOVER, day, 0.00012, population.customers, 3, 7)
    customer = np.repeat(accounts.who, random.poisson(0.8 + 1.6 * accounts.strength))
    n = len(customer)
    hour = random.normal(2.0 + 2.5 * _fashion(population, day, 3), 1.5, n) % 24
    terminal = _shop(random, habits, random.integers(0, population.customers, n), np.full(n, True))
    cents = _cents(habits.spend[customer] + random.normal(1.8 + 0.4 * _fashion(population, day, 4), 0.6, n))
    return Rows(customer, terminal, (hour * 3600).astype(np.int64), cents, np.full(n, ONLINE), np.ones(n, np.int64))


def _spells(
    population: Population, purpose: int, day: int, rate: float, among: int, shortest: int, longest: int
) -> Spells:
    """The spells of a kind that go on at `day`; of `among` ones, a share `rate` begin one every day."""
    found = []
    for began in range(day - longest + 1, day + 1):
        random = population.random(purpose, began, 1)  # a 0 would give the stream of the day itself
        n = random.poisson(rate * among)
        lasts = random.integers(shortest, longest + 1, n)
        who, strength = random.integers(0, among, n), random.random(n)
        other, on = random.integers(0, population.customers, n), began + lasts > day
        found.append(Spells(who[on], strength[on], other[on]))
    return Spells(*map(np.concatenate, zip(*found, strict=True)))


def _fashion(population: Population, day: int, which: int) -> float:
    """How thieves go about it these months: a number from -1 to 1 that wanders slowly with the calendar."""
    first, second = population.random(FASHION, which).uniform(0, 2 * np.pi, 2)
    return float(0.6 * np.sin(2 * np.pi * day / 210 + first) + 0.4 * np.sin(2 * np.pi * day / 97 + second))


def _shop(random: np.random.Generator, habits: Habits, customer: Ints, online: NDArray[np.bool_]) -> Ints:
    """A terminal that the customer likes, favourites more often; now and then any other."""
    luck, anywhere = random.random(len(customer)) ** 2, random.random(len(customer)) < 0.04
    who = np.where(anywhere, random.integers(0, len(habits.rate), len(customer)), customer)
    shop: Ints = habits.shops[who, (luck * habits.shops.shape[1]).astype(np.int64)]
    site: Ints = habits.sites[who, (luck * habits.sites.shape[1]).astype(np.int64)]
    return np.where(online, site, shop)


def _seconds(random: np.random.Generator, habits: Habits, customer: Ints) -> Ints:
    """Times of the day by the customers' habits."""
    hour: Ints = (random.random(len(customer))[:, None] > habits.hours[customer]).sum(axis=1)
    return np.minimum(hour, 23) * 3600 + random.integers(0, 3600, len(customer))


def _cents(logarithm: Floats) -> Ints:
    """Amounts in cents from logarithms of amounts: from 0.10 to 20,000.00."""
    return np.clip(np.rint(np.exp(logarithm) * 100.0), 10, 2_000_000).astype(np.int64)
