"""Fraud patterns: terminals that leak cards, stolen cards, tested cards, account takeovers.

Each function returns the transactions of one day, which depend on the population and the calendar day alone.
"""

import numpy as np

from processing.synthetic.population import (
    DAY,
    ONLINE,
    STOLEN,
    TAKEOVER,
    TERMINALS,
    TESTING,
    TREND,
    DayRows,
    Habits,
    Pattern,
    Population,
    cents_of,
    episodes,
    pick_terminals,
    seconds_of_day,
)


def leaked_cards(population: Population, rows: DayRows, day: int) -> DayRows:
    """The day's rows, with those of cards copied at a compromised terminal marked as frauds."""
    random = population.random(TERMINALS, day)
    share = np.zeros(population.terminals)
    places = episodes(population, TERMINALS, day, 0.00016, population.terminals, 25, 45)
    share[places.subject] = 0.65 + 0.35 * places.strength
    fraud = random.random(len(rows.customer)) < share[rows.terminal]
    return rows._replace(pattern=np.where(fraud, Pattern.LEAKED_TERMINAL, rows.pattern))


def stolen_cards(population: Population, habits: Habits, day: int) -> DayRows:
    """A thief also uses the card for about two weeks: elsewhere, for larger amounts, at other hours."""
    random = population.random(STOLEN, day)
    cards = episodes(population, STOLEN, day, 0.00007, population.customers, 10, 18)
    uses = np.repeat(np.arange(len(cards.subject)), random.poisson(0.8 + 1.4 * cards.strength))
    customer, thief, n = cards.subject[uses], cards.other[uses], len(uses)
    online = random.random(n) < 0.35 + 0.25 * _trend(population, day, 0)
    terminal = pick_terminals(random, habits, thief, online)
    increase = random.normal(1.9 + 0.4 * _trend(population, day, 1), 0.6, n)
    cents = cents_of(habits.spend[customer] + habits.price[terminal] + increase)
    second = np.where(random.random(n) < 0.4, random.integers(0, DAY, n), seconds_of_day(random, habits, thief))
    channel = np.where(online, ONLINE, random.random(n) < 0.6)
    return DayRows(customer, terminal, second, cents, channel.astype(np.int64), np.full(n, Pattern.STOLEN_CARD))


def tested_cards(population: Population, habits: Habits, day: int) -> DayRows:
    """A stolen number is tested with small amounts, minutes apart, then used."""
    random = population.random(TESTING, day)
    cards = random.integers(0, population.customers, random.poisson(0.00018 * population.customers))
    tries, uses = random.integers(3, 8, len(cards)), random.integers(1, 4, len(cards))
    burst = np.repeat(np.arange(len(cards)), tries + uses)
    position = np.arange(len(burst)) - np.repeat(np.cumsum(tries + uses) - tries - uses, tries + uses)
    customer, n = cards[burst], len(burst)
    begin = random.integers(0, DAY - 5400, len(cards))
    second = begin[burst] + position * 400 + random.integers(0, 400, n)
    small = random.normal(0.6 + 0.7 * _trend(population, day, 2), 0.5, n)
    large = habits.spend[customer] + random.normal(1.3, 0.6, n)
    cents = cents_of(np.where(position < tries[burst], small, large))
    terminal = pick_terminals(
        random, habits, random.integers(0, population.customers, len(cards))[burst], np.full(n, True)
    )
    return DayRows(customer, terminal, second, cents, np.full(n, ONLINE), np.full(n, Pattern.TESTED_CARD))


def account_takeovers(population: Population, habits: Habits, day: int) -> DayRows:
    """A thief orders from the customer's account on several nights."""
    random = population.random(TAKEOVER, day)
    accounts = episodes(population, TAKEOVER, day, 0.00012, population.customers, 3, 7)
    customer = np.repeat(accounts.subject, random.poisson(0.8 + 1.6 * accounts.strength))
    n = len(customer)
    hour = random.normal(2.0 + 2.5 * _trend(population, day, 3), 1.5, n) % 24
    terminal = pick_terminals(random, habits, random.integers(0, population.customers, n), np.full(n, True))
    cents = cents_of(habits.spend[customer] + random.normal(1.8 + 0.4 * _trend(population, day, 4), 0.6, n))
    second = (hour * 3600).astype(np.int64)
    return DayRows(customer, terminal, second, cents, np.full(n, ONLINE), np.full(n, Pattern.ACCOUNT_TAKEOVER))


def _trend(population: Population, day: int, which: int) -> float:
    """A trend in how thieves act: a number from -1 to 1 that drifts slowly with the calendar."""
    first, second = population.random(TREND, which).uniform(0, 2 * np.pi, 2)
    return float(0.6 * np.sin(2 * np.pi * day / 210 + first) + 0.4 * np.sin(2 * np.pi * day / 97 + second))
