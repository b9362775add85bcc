"""The layout of the online store in a DynamoDB table: constants and keys.

The partition key `pk` and the sort key `sk` are texts, the time to live is `expires`; the index `latest` is on `feed`
(text) and `recorded` (number). A key column is `<its index among the contract's>/<value>`.

    pk                      sk           contents
    profile/<entity>/<key>  profile      data: the packed profile of an entity's key (`processing.store.profiles`);
                                         version: how often it was written;
                                         refresh: the number of the refresh that set it last, and `read` of its
                                         Comparison, in ns;
                                         of an entity that the contract declares busy also folded, the version of each
                                         shard that was folded into it last, and changed (s since 1970)
    shard/<n>/<entity>/<key> shard       of a busy entity's key: a packed profile of decisions counted since the shard
                                         was folded; version, and emptied: the version at that time
    decision/<id>           decision     a decision (if it has `recorded`), and is_fraud as reported;
                                         row: the event of this id in the tables that a refresh counted from its horizon
                                         on, which may have no decision;
                                         displaced: the decision is not counted, as the tables have another transaction
                                         under its id;
                                         shards: of each busy entity the shard and its version in which the decision is
                                         counted; row_shards: likewise the event of the tables;
                                         listed: it is in lists; era: an earlier version recorded it
    list/<shard>/<list>     <position>   id: a decision of the list, in the order of recording. The lists are
                                         entity/<key column>, fraud (flagged), label/fraud and label/legit (as reported)
    reports                 <number>     a report: is_fraud, and the event that was decided; listed, as above
    counter                 reports      next: the number of the next report; labelled: the time of the newest
                                         transaction that was reported
    facts                   facts        contract: its digest; fingerprint: of the contract's entries that the store is
                                         bound to; listed: up to when all decisions are known to be in lists, in ns
    refresh                 refresh      horizon, refresh (its number), began (us since 1970): of the refresh that began
                                         last;
                                         done (its number), done_horizon, read, pending, basis: of the one completed
                                         last;
                                         plan: a digest of what the profiles keep; empty until a refresh that counts
                                         anew after its horizon is completed;
                                         whole (its number), whole_horizon: of the last one that set all profiles;
                                         labelled: the time of the newest transaction in the tables with a known label

All state of one entity's key is one item, read and written as a whole on the condition that its version is unchanged.
A decision reads and writes one for each entity. Nothing that all decisions share is read or written with them.

Decisions of a busy key, a large merchant say, are counted in one of SHARDS items instead, each a partition of its own.
Its profile is the item `profile`, which the first one creates, and all shards together. Now and then a shard is folded
into that item, in one transaction, which is the only way in which the item changes. So the numbers `folded` and
`emptied` tell whether an item and a shard that were read apart belong together.

An earlier version kept counters by day, in items that begin with `day/` and `frauds/`, and its facts in `facts`. This
one leaves them to their time to live. Such a table counts from nothing until the next run.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

from processing.store.decisions import Event

Item = dict[str, Any]  # attributes as the service has them: {"name": {"N": "1"}}

LONGEST_KEY_BYTES = 512  # of a value in a key; the service allows 2048 for the whole key
LISTS = 8  # parts of the index, and of each list: 1000 writes a second each
SHARDS = 64  # of a busy key; one BatchGetItem takes 100 keys
LAG_NS = 600_000_000_000  # the most that the index may be late and clocks may differ
KEPT_DAYS = 400  # for decisions and reports: longer than cardholders may take to complain
SPARE_DAYS = 30  # for profiles, beyond the longest window

FACTS = {"pk": {"S": "facts"}, "sk": {"S": "facts"}}
PROGRESS = {"pk": {"S": "refresh"}, "sk": {"S": "refresh"}}
COUNTER = {"pk": {"S": "counter"}, "sk": {"S": "reports"}}
REPORTS = "reports"


def address(item: Mapping[str, Any]) -> tuple[str, str]:
    """The key of an item as a pair, to look it up by."""
    return item["pk"]["S"], item["sk"]["S"]


def profile_key(entity: str, key: str) -> Item:
    """The key of the profile of an entity's key."""
    return {"pk": {"S": f"profile/{entity}/{_in_key(key)}"}, "sk": {"S": "profile"}}


def shard_key(entity: str, key: str, shard: int) -> Item:
    """The key of a shard of a busy entity's key."""
    return {"pk": {"S": f"shard/{shard}/{entity}/{_in_key(key)}"}, "sk": {"S": "shard"}}


def decision_key(transaction_id: str) -> Item:
    """The key of a decision."""
    return {"pk": {"S": f"decision/{_in_key(transaction_id)}"}, "sk": {"S": "decision"}}


def list_key(name: str, part: int, position: str) -> Item:
    """The key of a decision's entry in a list."""
    return {"pk": {"S": f"list/{part}/{_in_key(name)}"}, "sk": {"S": position}}


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


def part_of(transaction_id: str) -> int:
    """The part of the index, and of each list, that an id belongs to."""
    return int(hashlib.sha256(transaction_id.encode()).hexdigest()[:8], 16) % LISTS


def feed_of(part: int) -> str:
    """The partition of the index `latest` for a part."""
    return f"feed{part}"


def _in_key(value: str) -> str:
    """A value as part of a key: the value itself, or its digest if it is too long."""
    data = value.encode()
    return value if len(data) <= LONGEST_KEY_BYTES else "sha256:" + hashlib.sha256(data).hexdigest()
