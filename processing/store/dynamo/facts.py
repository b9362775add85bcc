"""The item `facts`: how far the tables reach, and which refresh is under way."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from processing.contract import Contract
from processing.store.dynamo.attributes import integer, number
from processing.store.dynamo.layout import FACTS, Item

FACT_NAMES = ("horizon", "refresh", "done", "done_horizon", "era", "read", "pending", "began", "labelled", "listed")


@dataclass(frozen=True)
class Facts:
    """See `processing.store.dynamo.layout`. Once a refresh has begun, only it sets the hours before `horizon`."""

    contract: str
    horizon: int
    refresh: int
    done: int
    done_horizon: int
    era: int  # in which the counters count: 0, or the number of the refresh that began it
    read: int  # in ns: decisions recorded up to this time have been compared with the tables
    pending: int  # when the first decision that the tables lack was recorded
    began: int
    labelled: int
    listed: int  # 0 in a table of an earlier version, until a run has put its decisions into lists
    fingerprint: str | None = None  # stores of earlier versions have only the digest of the contract

    @property
    def settled(self) -> bool:
        """Whether no refresh is under way."""
        return self.refresh == self.done

    @classmethod
    def of(cls, item: Mapping[str, Any]) -> "Facts":
        """The facts in an item."""
        facts = {name: integer(item, name) for name in FACT_NAMES}
        fingerprint = item["fingerprint"]["S"] if "fingerprint" in item else None
        return cls(contract=item["contract"]["S"], fingerprint=fingerprint, **facts)


def new_facts(contract: Contract, now_ns: int) -> Item:
    """The item of a new store."""
    bound = {"contract": {"S": contract.digest}, "fingerprint": {"S": contract.fingerprint}}
    facts = dict.fromkeys(FACT_NAMES, 0) | {"listed": now_ns}
    return FACTS | bound | {name: number(value) for name, value in facts.items()}
