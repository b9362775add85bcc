"""Events and decisions as attributes of items in DynamoDB."""

import json
import time
from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from processing.store.decisions import Decision, Event
from processing.store.dynamo.layout import SPARE_DAYS, Item, feed_of, part_of


def number(value: int) -> dict[str, str]:
    """An integer as an attribute."""
    return {"N": str(value)}


def integer(item: Mapping[str, Any], name: str, default: int = 0) -> int:
    """An attribute as an integer."""
    return int(Decimal(item[name]["N"])) if name in item else default


def expiry(days: int) -> Item:
    """The time to live of an item that is kept for so many days."""
    return number(int(time.time()) + days * 86_400)


def expiry_at(seconds: int) -> Item:
    """The time to live of an item that is kept until SPARE_DAYS after a time, in seconds since 1970."""
    return number(seconds + SPARE_DAYS * 86_400)


def unchanged(item: Mapping[str, Any], names: Iterable[str]) -> tuple[str, Item]:
    """The condition that attributes are still what they are in `item`, and its values."""
    conditions = [f"#{name} = :seen_{name}" if name in item else f"attribute_not_exists(#{name})" for name in names]
    return " AND ".join(conditions), {f":seen_{name}": item[name] for name in names if name in item}


def event_item(event: Event) -> Item:
    """The attributes of an event."""
    extras = {"extras": {"S": json.dumps(event.extras, ensure_ascii=False)}} if event.extras else {}
    return extras | {
        "id": {"S": event.transaction_id},
        "time_us": number(event.time_us),
        "amount": number(event.amount),
        "keys": {"L": [{"S": key} for key in event.keys]},
    }


def event_of(item: Mapping[str, Any]) -> Event:
    """The event in the item of a decision or a report."""
    keys = tuple(key["S"] for key in item["keys"]["L"])
    extras = json.loads(item["extras"]["S"]) if "extras" in item else []
    values = tuple((name, value) for name, value in extras)
    return Event(item["id"]["S"], integer(item, "time_us"), integer(item, "amount"), keys, values)


def places_item(name: str, places: Mapping[str, tuple[int, int]]) -> Item:
    """The attribute `shards` or `row_shards` of an id's item; empty if there are no places."""
    values = {entity: {"L": [number(value) for value in place]} for entity, place in places.items()}
    return {name: {"M": values}} if values else {}


def place_of(item: Mapping[str, Any], entity: str, *, decided: bool) -> tuple[int, int] | None:
    """The shard of a busy key, and its version, in which an id is counted; None if it is in none.

    decided: whether the event of the decision is meant, or that of the tables
    """
    places = item.get("shards" if decided else "row_shards", {}).get("M", {})
    return (int(places[entity]["L"][0]["N"]), int(places[entity]["L"][1]["N"])) if entity in places else None


def decision_item(decision: Decision, recorded: int) -> Item:
    """The attributes of a decision. Floats are texts, which give the same bits when read back."""
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
        "feed": {"S": feed_of(part_of(decision.event.transaction_id))},
        "listed": {"BOOL": True},
    }


def decision_of(item: Mapping[str, Any] | None) -> Decision | None:
    """The decision in an item, if there is one."""
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
