"""What a table belongs to, how far the tables of the home reach in it, and which refresh is under way."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from processing.contract import Contract
from processing.store.dynamo.attributes import integer, number
from processing.store.dynamo.layout import FACTS, Item


@dataclass(frozen=True)
class Facts:
    """The items `facts` and `refresh`: see `processing.store.dynamo.layout`. Horizons are in hours."""

    contract: str
    horizon: int
    refresh: int
    began: int
    done: int
    done_horizon: int
    whole: int
    whole_horizon: int
    read: int  # decisions recorded up to this time have been compared with the tables, in ns
    pending: int  # when the first decision that the tables lack was recorded, in ns
    labelled: int
    basis: str
    plan: str  # digest of what the refresh completed last kept
    listed: int  # 0 in a table of an earlier version, until a run has put its decisions into lists
    fingerprint: str | None  # stores of earlier versions have only the digest of the contract
    refreshed_before: bool  # whether an earlier version refreshed the table

    @property
    def settled(self) -> bool:
        """Whether no refresh is under way."""
        return self.refresh == self.done

    @classmethod
    def of(cls, item: Mapping[str, Any], progress: Mapping[str, Any]) -> "Facts":
        """The facts in the two items; `progress` is empty before the first refresh."""
        names = ("horizon", "refresh", "began", "done", "done_horizon", "whole", "whole_horizon", "read")
        return cls(
            contract=item["contract"]["S"],
            **{name: integer(progress, name) for name in names},
            pending=integer(progress, "pending", integer(item, "pending")),
            labelled=max(integer(progress, "labelled"), integer(item, "labelled")),
            basis=progress["basis"]["S"] if "basis" in progress else "",
            plan=progress["plan"]["S"] if "plan" in progress else "",
            listed=integer(item, "listed"),
            fingerprint=item["fingerprint"]["S"] if "fingerprint" in item else None,
            refreshed_before=integer(item, "refresh") > 0,
        )


def new_facts(contract: Contract, now_ns: int) -> Item:
    """The item `facts` of a new store."""
    bound = {"contract": {"S": contract.digest}, "fingerprint": {"S": contract.fingerprint}}
    return FACTS | bound | {"listed": number(now_ns)}
