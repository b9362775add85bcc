"""The layout of the online store in a DynamoDB table: constants and keys.

The partition key `pk` and the sort key `sk` are texts, the time to live is `expires`; the index `latest` is on `feed`
(text) and `recorded` (number). An entity is `<its index in the contract>/<its key>`, and a key column
`<its index among the contract's>/<value>`. Numbers hold 38 digits, so sums stay exact.

    pk                      sk           contents
    facts                   facts        contract: its digest; fingerprint: of the contract's entries that the store is
                                         bound to;
                                         horizon, refresh (its number), began (us since 1970): of the refresh that began
                                         last;
                                         done (its number), done_horizon, era, read, pending: of the one completed last;
                                         labelled: the time of the newest transaction in the tables with a known label;
                                         listed: up to when all decisions are known to be in lists, in ns
    decision/<id>           decision     a decision (if it has `recorded`), and is_fraud as reported;
                                         counted: whether the counters hold it as fraud, since the refresh `basis`;
                                         tail: the hour of the event of this id in the tables that a refresh counted
                                         from its horizon on, which may have no decision; content: that event's digest;
                                         era: the era in which it is counted;
                                         displaced: the decision is not counted, as the tables have another transaction
                                         under its id;
                                         listed: it is in lists
    list/<shard>/<list>     <position>   id: a decision of the list, in the order of recording. The lists are
                                         entity/<key column>, fraud (flagged), label/fraud and label/legit (as reported)
    day/<entity>/<day>      hours        n13 s13 q13 f13 g13: the counters of hour 13; refresh, until: the refresh that
                                         set the hours before `until`
    day/<entity>/<day>      <slot>       n<t> s<t> q<t>: the counters of the moment t microseconds into the day, for
                                         ten minutes: an event sees those of its own hour that lie before it, but not
                                         those at the same time
    frauds/<shard>          frauds       ids: digests of the events before the horizon that are counted as fraud
    reports                 <number>     a report: is_fraud, and the event that was decided; listed, as above
    counter                 reports      next: the number of the next report; labelled: the time of the newest
                                         transaction that was reported

One item holds one day, so that a write costs one unit and one BatchGetItem covers a lookback. Each day of an entity is
a partition of its own, so that no entity is limited to the throughput of one partition. An item holds 400 KB: some
10,000 distinct times of one entity in ten minutes. A refresh that moves the horizon back begins an era: a second set of
counters (`hours.7`, `slot003.7` in the era that refresh 7 began), filled while the API goes on with the first.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

from processing.features.windows import DAY_US, HOUR_US
from processing.store.decisions import Event

Item = dict[str, Any]  # attributes as the service has them: {"name": {"N": "1"}}

DAY_HOURS = 24
SLOT_US = HOUR_US // 6
LONGEST_KEY_BYTES = 512  # of a value in a key; the service allows 2048 for the whole key
FRAUD_SHARDS = 256  # enough for millions of frauds
SHARDS = 8  # of the index, and of each list: 1000 writes a second each
LAG_NS = 600_000_000_000  # the most that the index may be late and clocks may differ
KEPT_DAYS = 400  # for decisions and reports: longer than cardholders may take to complain
SPARE_DAYS = 30  # for counters, after the last change, beyond the lookback

FACTS = {"pk": {"S": "facts"}, "sk": {"S": "facts"}}
COUNTER = {"pk": {"S": "counter"}, "sk": {"S": "reports"}}
REPORTS = "reports"


def address(item: Mapping[str, Any]) -> tuple[str, str]:
    """The key of an item as a pair, to look it up by."""
    return item["pk"]["S"], item["sk"]["S"]


def decision_key(transaction_id: str) -> Item:
    """The key of a decision."""
    return {"pk": {"S": f"decision/{_in_key(transaction_id)}"}, "sk": {"S": "decision"}}


def day_key(entity: int, key: str, day: int, era: int = 0) -> Item:
    """The key of an entity's hours on a day, numbered from 1970-01-01."""
    return {"pk": {"S": f"day/{entity}/{_in_key(key)}/{day}"}, "sk": {"S": _in_era("hours", era)}}


def slot_key(entity: int, key: str, time_us: int, era: int = 0) -> Item:
    """The key of the ten minutes of an entity that contain a time."""
    day, within = divmod(time_us, DAY_US)
    return day_key(entity, key, day) | {"sk": {"S": _in_era(f"slot{within // SLOT_US:03}", era)}}


def list_key(name: str, shard: int, position: str) -> Item:
    """The key of a decision's entry in a list."""
    return {"pk": {"S": f"list/{shard}/{_in_key(name)}"}, "sk": {"S": position}}


def frauds_key(shard: int) -> Item:
    """The key of a shard of the frauds in the tables."""
    return {"pk": {"S": f"frauds/{shard}"}, "sk": {"S": "frauds"}}


def report_key(number: int) -> Item:
    """The key of a report."""
    return {"pk": {"S": REPORTS}, "sk": {"S": f"{number:012}"}}


def key_list(column: int, key: str) -> str:
    """The name of the list of decisions with a value in a key column."""
    return f"entity/{column}/{key}"


def lists_of(event: Event, decision: str) -> list[str]:
    """The names of the lists that a decision is in from the start."""
    lists = [key_list(column, key) for column, key in enumerate(event.keys)]
    return [*lists, "fraud"] if decision == "fraud" else lists


def position_of(recorded: int, transaction_id: str) -> str:
    """A decision's position in the order of recording; unique."""
    return f"{recorded:020}/{hashlib.sha256(transaction_id.encode()).hexdigest()[:12]}"


def fraud_shard_of(transaction_id: str) -> int:
    """The shard of the frauds that an id belongs to."""
    return int(hashlib.sha256(transaction_id.encode()).hexdigest()[:8], 16) % FRAUD_SHARDS


def shard_of(transaction_id: str) -> int:
    """The shard of the index, and of each list, that an id belongs to."""
    return fraud_shard_of(transaction_id) % SHARDS


def feed_of(shard: int) -> str:
    """The partition of the index `latest` for a shard."""
    return f"feed{shard}"


def _in_key(value: str) -> str:
    """A value as part of a key: the value itself, or its digest if it is too long."""
    data = value.encode()
    return value if len(data) <= LONGEST_KEY_BYTES else "sha256:" + hashlib.sha256(data).hexdigest()


def _in_era(name: str, era: int) -> str:
    return f"{name}.{era}" if era else name
