"""The population that synthetic transactions are drawn from, and its habits."""

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from processing.arrays import Floats
from processing.errors import BadInput

CHANNELS = ("chip", "contactless", "online")
ONLINE = CHANNELS.index("online")
DAY = 86_400  # seconds

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Population:
    """The numbers of customers and terminals, and the seed for them and everything they do."""

    customers: int = 5_000
    terminals: int = 2_000
    seed: int = 7

    def __post_init__(self) -> None:
        for name, minimum in (("customers", 1), ("terminals", 10), ("seed", 0)):
            if getattr(self, name) < minimum:
                raise BadInput(f"{name} is {getattr(self, name)}, expected {minimum} or more")

    def random(self, *purpose: int) -> np.random.Generator:
        """A generator for one purpose, which gives the same numbers each time."""
        return np.random.default_rng(np.random.SeedSequence([self.seed, *purpose]))


# The first number of a generator's purpose.
HABITS, LEGITIMATE, TRIPS, TERMINALS, STOLEN, TESTING, TAKEOVER, TREND = range(8)


class Pattern(IntEnum):
    """The pattern that a transaction belongs to."""

    LEGITIMATE = 0
    LEAKED_TERMINAL = 1
    STOLEN_CARD = 2
    TESTED_CARD = 3
    ACCOUNT_TAKEOVER = 4


class Habits(NamedTuple):
    """The habits of customers, one row each, and the properties of terminals."""

    rate: Floats  # purchases a day
    weekend: Floats  # factor on that at weekends
    spend: Floats  # mean and ...
    spread: Floats  # ... standard deviation of the logarithm of an amount
    hours: Floats  # [customers, 24] cumulative share of the day's hours
    online: Floats  # log-odds of buying online
    contactless: Floats  # share of contactless at a terminal
    shops: Ints  # [customers, k] terminals near home, favourites first
    sites: Ints  # [customers, k] online shops, favourites first
    price: Floats  # [terminals] added to the logarithm of an amount


class DayRows(NamedTuple):
    """Transactions of one day: codes, the second of the day, the amount in cents, the `Pattern`."""

    customer: Ints
    terminal: Ints
    second: Ints
    cents: Ints
    channel: Ints
    pattern: Ints


class Episodes(NamedTuple):
    """Episodes of several days that include a given day: subject, strength (0 to 1), and another customer involved."""

    subject: Ints
    strength: Floats
    other: Ints


def draw_habits(population: Population) -> Habits:
    """The habits of a population. Homes and shops are in towns on a square of 100 km."""
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
    random: np.random.Generator, popularity: Floats, count: int, homes: Floats, places: Floats | None, radius: Floats
) -> Ints:
    """Every customer's favourite places, [customers, count]: by popularity, distance and taste."""
    blocks = []
    for block in np.array_split(np.arange(len(homes)), -(-len(homes) // 500)):  # bounds the memory
        appeal = popularity + random.gumbel(size=(len(block), len(popularity)))
        if places is not None:
            offset = homes[block, None, :] - places
            appeal -= np.hypot(offset[..., 0], offset[..., 1]) / radius[block, None]
        blocks.append(np.argsort(-appeal, axis=1)[:, :count])
    return np.concatenate(blocks).astype(np.int64)


def episodes(
    population: Population, purpose: int, day: int, rate: float, subjects: int, shortest: int, longest: int
) -> Episodes:
    """The episodes of one kind that include `day`. Each day a share `rate` of the `subjects` begins one."""
    current = []
    for start in range(day - longest + 1, day + 1):
        random = population.random(purpose, start, 1)  # with 0 it would be the generator of the day itself
        n = random.poisson(rate * subjects)
        length = random.integers(shortest, longest + 1, n)
        subject, strength = random.integers(0, subjects, n), random.random(n)
        other, active = random.integers(0, population.customers, n), start + length > day
        current.append(Episodes(subject[active], strength[active], other[active]))
    return Episodes(*map(np.concatenate, zip(*current, strict=True)))


def pick_terminals(random: np.random.Generator, habits: Habits, customer: Ints, online: NDArray[np.bool_]) -> Ints:
    """A terminal for each purchase: mostly one of the customer's, favourites more often; sometimes any other."""
    rank, anywhere = random.random(len(customer)) ** 2, random.random(len(customer)) < 0.04
    shopper = np.where(anywhere, random.integers(0, len(habits.rate), len(customer)), customer)
    shop: Ints = habits.shops[shopper, (rank * habits.shops.shape[1]).astype(np.int64)]
    site: Ints = habits.sites[shopper, (rank * habits.sites.shape[1]).astype(np.int64)]
    return np.where(online, site, shop)


def seconds_of_day(random: np.random.Generator, habits: Habits, customer: Ints) -> Ints:
    """Random seconds of the day, at the customers' usual hours."""
    hour: Ints = (random.random(len(customer))[:, None] > habits.hours[customer]).sum(axis=1)
    return np.minimum(hour, 23) * 3600 + random.integers(0, 3600, len(customer))


def cents_of(logarithm: Floats) -> Ints:
    """Amounts in cents from logarithms of amounts: from 0.10 to 20,000.00."""
    return np.clip(np.rint(np.exp(logarithm) * 100.0), 10, 2_000_000).astype(np.int64)
