"""The items of the online store in DynamoDB: their keys, and rows, events and decisions from and to attributes.

One table; partition key `pk` and sort key `sk` (texts), time to live `expires`; index `latest` on `feed` (text) and
`recorded` (number). An entity is `<place in the contract>/<value>`; numbers hold 38 digits, so sums stay exact.

    pk                      sk           what it holds
    facts                   facts        contract (its digest), fingerprint (of its entries that the store is bound to);
                                         horizon and refresh: of the refresh that began last;
                                         done, done_horizon, era, read, pending: of the one that was completed last;
                                         began: when the one did that began last (us since 1970); labelled: the time of
                                         the data's newest transaction whose label is known;
                                         listed: up to when all decisions are known to be in lists, in ns
    decision/<id>           decision     a decision (has `recorded`), and is_fraud as reported; counted: whether the
                                         counters hold it as a fraud, since the refresh `basis`; tail: the hour of the
                                         data's event of this id that a refresh counted from its horizon on, which may
                                         be without a decision, and content: its digest; era: where it is counted;
                                         displaced: the decision is not, as the data has another transaction for the id;
                                         listed: it is in lists
    list/<shard>/<list>     <position>   id: a decision of the list, in the order of recording. The lists are
                                         entity/<entity>, fraud (called so), label/fraud, label/legit (as reported)
    day/<entity>/<day>      hours        n13 s13 q13 f13 g13: that hour's counters; refresh, until: of the refresh that
                                         set the hours before `until`
    day/<entity>/<day>      <slot>       n<t> s<t> q<t>: what happened t microseconds into the day, for each t of ten
                                         minutes: an event sees those of its hour before it, not those at its time
    frauds/<shard>          frauds       ids: digests of the events before the horizon that are counted as fraud
    reports                 <number>     a report: is_fraud, and the event that was decided; listed, as above
    counter                 reports      next: the number of the next report; labelled: the time of the newest
                                         transaction that was reported

A day is an item so that a write costs one unit and a read of a look-back fits one BatchGetItem; the days of an entity
are partitions of their own, so that no entity is bound to one partition's throughput. An item holds 400 KB: some
10,000 distinct times of one entity in ten minutes. A refresh whose horizon goes back begins an era: counters of its own
(`hours.7`, `slot003.7` in the era that refresh 7 began), filled while the API goes on with those before.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from processing.contract import Contract
from processing.features.windows import DAY_US, HOUR_US
from processing.store.interface import Decision, Event

Item = dict[str, Any]  # attributes as the service has them: {"name": {"N": "1"}}

DAY_HOURS = 24
SLOT_US = HOUR_US // 6
LONGEST_BYTES = 512  # of a value in a key, where the service allows 2048 in all
FRAUD_SHARDS = 256  # so that millions fit
SHARDS = 8  # of the index, and of each list: 1000 writes a second each
LAG_NS = 600_000_000_000  # by which the index may be late, and clocks may differ
FACTS = {"pk": {"S": "facts"}, "sk": {"S": "facts"}}
FACT_NAMES = ("horizon", "refresh", "done", "done_horizon", "era", "read", "pending", "began", "labelled", "listed")
COUNTER = {"pk": {"S": "counter"}, "sk": {"S": "reports"}}
REPORTS = "reports"


def new_facts(contract: Contract, now_ns: int) -> Item:
    """The facts of a new store."""
    bound = {"contract": {"S": contract.digest}, "fingerprint": {"S": contract.fingerprint}}
    facts = dict.fromkeys(FACT_NAMES, 0) | {"listed": now_ns}
    return FACTS | bound | {name: number(value) for name, value in facts.items()}


def number(value: int) -> dict[str, str]:
    """An integer as an attribute."""
    return {"N": str(value)}


def integer(item: Mapping[str, Any], name: str, default: int = 0) -> int:
    """An attribute as an integer."""
    return int(Decimal(item[name]["N"])) if name in item else default


def _named(value: str) -> str:
    """A value as part of a key: itself, or its digest if it is too long for one."""
    data = value.encode()
    return value if len(data) <= LONGEST_BYTES else "sha256:" + hashlib.sha256(data).hexdigest()


def decision_key(transaction_id: str) -> Item:
    return {"pk": {"S": f"decision/{_named(transaction_id)}"}, "sk": {"S": "decision"}}


def day_key(entity: int, key: str, day: int, era: int = 0) -> Item:
    return {"pk": {"S": f"day/{entity}/{_named(key)}/{day}"}, "sk": {"S": _in_era("hours", era)}}


def slot_key(entity: int, key: str, time_us: int, era: int = 0) -> Item:
    day, within = divmod(time_us, DAY_US)
    return day_key(entity, key, day) | {"sk": {"S": _in_era(f"slot{within // SLOT_US:03}", era)}}


def _in_era(name: str, era: int) -> str:
    return f"{name}.{era}" if era else name


def list_key(name: str, shard: int, position: str) -> Item:
    """Where a decision stands in a list."""
    return {"pk": {"S": f"list/{shard}/{_named(name)}"}, "sk": {"S": position}}


def lists_of(event: Event, decision: str) -> list[str]:
    """The lists that a decision is in from the beginning."""
    lists = [f"entity/{entity}/{key}" for entity, key in enumerate(event.keys)]
    return [*lists, "fraud"] if decision == "fraud" else lists


def position_of(recorded: int, transaction_id: str) -> str:
    """A decision's place in the order of recording; no two have the same."""
    return f"{recorded:020}/{hashlib.sha256(transaction_id.encode()).hexdigest()[:12]}"


def frauds_key(shard: int) -> Item:
    return {"pk": {"S": f"frauds/{shard}"}, "sk": {"S": "frauds"}}


def shard_of(transaction_id: str) -> int:
    """Where an id's event stands among the data's frauds."""
    return int(hashlib.sha256(transaction_id.encode()).hexdigest()[:8], 16) % FRAUD_SHARDS


def content_of(event: Event) -> str:
    """A digest of an event, its id included."""
    content = json.dumps([event.transaction_id, event.time_us, event.amount, *event.keys])
    return hashlib.sha256(content.encode()).hexdigest()[:20]


def report_key(report: int) -> Item:
    return {"pk": {"S": REPORTS}, "sk": {"S": f"{report:012}"}}


def address(item: Mapping[str, Any]) -> tuple[str, str]:
    """The key of an item as a pair that can be looked up."""
    return item["pk"]["S"], item["sk"]["S"]


def as_seen(item: Mapping[str, Any], names: Iterable[str]) -> tuple[str, Item]:
    """The condition that attributes still are what they were in `item`, and its values."""
    conditions = [f"#{name} = :seen_{name}" if name in item else f"attribute_not_exists(#{name})" for name in names]
    return " AND ".join(conditions), {f":seen_{name}": item[name] for name in names if name in item}


@dataclass(frozen=True)
class Facts:
    """How far the data reaches. Hours before `horizon` are the data's to tell, as soon as a refresh has begun."""

    contract: str
    horizon: int
    refresh: int
    done: int
    done_horizon: int
    era: int  # in which the counters count; 0 or the number of the refresh that began it
    read: int  # decisions recorded up to this time, in ns, have been compared with the data
    pending: int  # when the first of them was recorded that the data lacks
    began: int  # the refresh that began last
    labelled: int  # the time of the data's newest transaction whose label is known
    listed: int  # 0 in a table of an earlier version, until a run has put its decisions into lists
    fingerprint: str | None = None  # of the contract; stores of a time before have its digest alone

    @property
    def settled(self) -> bool:
        """Whether no refresh is under way."""
        return self.refresh == self.done

    @classmethod
    def of(cls, item: Mapping[str, Any]) -> "Facts":
        facts = {name: integer(item, name) for name in FACT_NAMES}
        fingerprint = item["fingerprint"]["S"] if "fingerprint" in item else None
        return cls(contract=item["contract"]["S"], fingerprint=fingerprint, **facts)


def hours_of(day: int, item: Mapping[str, Any], facts: Facts) -> Iterator[list[int]]:
    """The rows [hour, n, s, q, f, g] of a day's item that count, oldest first.

    Hours before the horizon count only as the refresh that was completed last, or one after it, has set them.
    """
    stale = integer(item, "refresh") < facts.done
    for within in range(DAY_HOURS):
        hour = day * DAY_HOURS + within
        if f"n{within}" in item and not (stale and hour < facts.done_horizon):
            yield [hour, *(integer(item, f"{name}{within}") for name in "nsqfg")]


def earlier_of(items: Iterable[Mapping[str, Any]], event: Event) -> tuple[int, int, int]:
    """Count, amount and squares of what happened in the event's hour before it."""
    day_us, sums = event.time_us // DAY_US * DAY_US, [0, 0, 0]
    low, high = event.hour * HOUR_US - day_us, event.time_us - day_us
    for item in items:
        for name in item:
            if name[0] in "nsq" and name[1:].isdigit() and low <= int(name[1:]) < high:
                sums["nsq".index(name[0])] += integer(item, name)
    return sums[0], sums[1], sums[2]


def decision_item(decision: Decision, recorded: int) -> Item:
    """The attributes of a decision. Floats are kept as texts that give the same bits again."""
    reasons = {} if decision.reasons is None else {"reasons": {"S": decision.reasons}}
    return reasons | {
        **event_item(decision.event),
        "decision": {"S": decision.decision},
        "score": {"S": repr(float(decision.score))},
        "threshold": {"S": repr(float(decision.threshold))},
        "model_version": {"S": decision.model_version},
        "features": {"B": decision.features},
        "decided_at": {"S": decision.decided_at.isoformat()},
        "recorded": number(recorded),
        "feed": {"S": feed_of(shard_of(decision.event.transaction_id) % SHARDS)},
        "listed": {"BOOL": True},
    }


def feed_of(shard: int) -> str:
    return f"feed{shard}"


def event_item(event: Event) -> Item:
    """The attributes of an event."""
    return {
        "id": {"S": event.transaction_id},
        "time_us": number(event.time_us),
        "amount": number(event.amount),
        "keys": {"L": [{"S": key} for key in event.keys]},
    }


def event_of(item: Mapping[str, Any]) -> Event:
    """The event that a decision or a report is of."""
    keys = tuple(key["S"] for key in item["keys"]["L"])
    return Event(item["id"]["S"], integer(item, "time_us"), integer(item, "amount"), keys)


def is_counted(item: Mapping[str, Any], facts: Facts, in_data: bool) -> bool:
    """Whether a decided event is among those counted, as the refresh that was completed last knows.

    `in_data`: it is among the frauds of the data.
    """
    if "displaced" in item:
        return False
    if integer(item, "time_us") // HOUR_US >= facts.done_horizon:
        return integer(item, "era") == facts.era
    labelled = "counted" in item and integer(item, "basis", -1) == facts.done
    return in_data or labelled or integer(item, "recorded") <= facts.read


def counted_as_fraud(item: Mapping[str, Any], facts: Facts, in_data: bool) -> bool:
    """Whether the counters hold a counted event as a fraud.

    What a refresh sets holds what the data says (`in_data`); from then on, and after the horizon, reports count.
    """
    since = integer(item, "basis", -1) == facts.done or integer(item, "time_us") // HOUR_US >= facts.done_horizon
    counted: bool = item["counted"]["BOOL"] if since and "counted" in item else in_data
    return counted


def decision_of(item: Mapping[str, Any] | None) -> Decision | None:
    """The decision that an item holds, if it holds one."""
    if item is None or "recorded" not in item:
        return None
    return Decision(
        event_of(item),
        item["decision"]["S"],
        float(item["score"]["S"]),
        float(item["threshold"]["S"]),
        item["model_version"]["S"],
        bytes(item["features"]["B"]),
        datetime.fromisoformat(item["decided_at"]["S"]),
        item["is_fraud"]["BOOL"] if "is_fraud" in item else None,
        item["reasons"]["S"] if "reasons" in item else None,
    )
