"""A model of one DynamoDB table and of the service's documented limits, as a client of boto3.

An item holds 400 kB. A partition bears 1,000 write units and 3,000 read units a second, without bursts; every partition
key is a partition of its own, which is the best case. A write costs a unit for each kB of the item, before or after it,
whichever is larger, and twice that in a transaction; a strongly consistent read costs one for each 4 kB. Writes of an
index cost as much as those outside of transactions. Two transactions on one item at once conflict. A transaction has at
most 100 items and 4 MB, a batch read 100 items and 16 MB. Calls take simulated time.
"""

import random
import re
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError
from simulated_time import SimulatedTime

Item = dict[str, Any]
Address = tuple[str, str]

WRITES, READS = 1_000, 3_000  # units a second
LARGEST_ITEM, LARGEST_TRANSACTION, LARGEST_READ = 400 * 1024, 4 * 1024**2, 16 * 1024**2
MOST_ITEMS = 100
READ_SECONDS, TRANSACTION_SECONDS = 0.004, 0.010


class Killed(Exception):
    """The process that calls ends here."""


@dataclass
class Usage:
    """What a call used: how many items, their bytes, and units."""

    operation: str
    items: int
    size: int
    units: int


@dataclass
class LimitedDynamoDB:
    """See above. `usage` has all calls that succeeded, `refused` counts the others by their reason.

    lost: the share of responses that do not arrive, though the call was carried out
    ends_after: raises `Killed` in each call once so many writes were made
    """

    time: SimulatedTime
    lost: float = 0.0
    ends_after: int | None = None
    items: dict[Address, Item] = field(default_factory=dict)
    usage: list[Usage] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._sizes: dict[Address, int] = {}
        self._locked: set[Address] = set()
        self._lock = threading.RLock()
        self._tokens: set[str] = set()
        self._used: Counter[tuple[str, str, int]] = Counter()

    @property
    def largest(self) -> int:
        """The size of the largest item, in bytes."""
        return max(self._sizes.values())

    def partitions(self, kind: str) -> dict[str, int]:
        """The units that each partition used in its busiest second, by "read" or "write"."""
        most: dict[str, int] = {}
        for (of, partition, _), units in self._used.items():
            if of == kind:
                most[partition] = max(units, most.get(partition, 0))
        return most

    def close(self) -> None:
        """There is nothing to release."""

    def batch_get_item(self, RequestItems: Mapping[str, Any]) -> Item:  # noqa: N803 - as boto3 names it
        ((table, request),) = RequestItems.items()
        addresses = [_address(key) for key in request["Keys"]]
        assert request["ConsistentRead"] is True
        assert len(set(addresses)) == len(addresses) <= MOST_ITEMS
        found, unprocessed, size, units = [], [], 0, 0
        for key, address in zip(request["Keys"], addresses, strict=True):
            cost = max(1, -(-self._sizes.get(address, 0) // 4096))
            if size + self._sizes.get(address, 0) > LARGEST_READ or not self._take("read", address[0], cost, READS):
                unprocessed.append(key)
                continue
            size, units = size + self._sizes.get(address, 0), units + cost
            if address in self.items:
                found.append(dict(self.items[address]))
        self.refused["unprocessed reads"] += len(unprocessed)
        self.usage.append(Usage("read", len(addresses) - len(unprocessed), size, units))
        self.time.sleep(READ_SECONDS)
        return {"Responses": {table: found}, "UnprocessedKeys": {table: {"Keys": unprocessed}} if unprocessed else {}}

    def put_item(self, **request: Any) -> Item:
        return self._write_alone({"Put": request})

    def update_item(self, **request: Any) -> Item:
        return self._write_alone({"Update": request})

    def transact_write_items(self, TransactItems: list[Item], ClientRequestToken: str = "") -> Item:  # noqa: N803
        if ClientRequestToken and ClientRequestToken in self._tokens:
            return {}
        requests = [next(iter(each.values())) for each in TransactItems]
        addresses = [_address(each.get("Item") or each["Key"]) for each in requests]
        assert len(set(addresses)) == len(addresses) <= MOST_ITEMS
        with self._holding(addresses):
            self.time.sleep(TRANSACTION_SECONDS)
            with self._lock:
                reasons = [self._failed(address, each) for address, each in zip(addresses, requests, strict=True)]
                if any(reasons):
                    self._use("failed transaction", addresses, [None] * len(addresses), 2)
                    raise self._cancelled([reason or {"Code": "None"} for reason in reasons])
                after = [self._after(address, each) for address, each in zip(addresses, TransactItems, strict=True)]
                assert sum(map(size_of, filter(None, after))) <= LARGEST_TRANSACTION
                self._use("transaction", addresses, after, 2)
                self._apply(addresses, after)
                self._tokens.add(ClientRequestToken)
        self._respond()
        return {}

    def batch_write_item(self, RequestItems: Mapping[str, Any]) -> Item:  # noqa: N803
        for request in next(iter(RequestItems.values())):
            self._write_alone({"Put": request["PutRequest"]})
        return {}

    def query(self, **request: Any) -> Item:
        """The items of `A = :a AND B ...`, all in one page. The index does not lag."""
        condition = request["KeyConditionExpression"]
        partition, _, rest = condition.partition(" AND ")
        own, sort = partition.split()[0], rest.split()[0]
        low, high = re.findall(r":\w+", rest)[0], re.findall(r":\w+", rest)[-1]
        values = request["ExpressionAttributeValues"]
        kind = "N" if sort == "recorded" else "S"
        found = []
        with self._lock:
            for item in self.items.values():
                if item.get(own) != values[partition.split()[2]] or sort not in item:
                    continue
                at = _ordered(item[sort][kind], kind)
                above, below = at >= _ordered(values[low][kind], kind), at <= _ordered(values[high][kind], kind)
                excluded = "> " in rest and item[sort] == values[low]
                if above and (below or "BETWEEN" not in rest) and not excluded:
                    found.append((at, dict(item)))
        found.sort(key=lambda each: each[0], reverse=not request.get("ScanIndexForward", True))
        if "FilterExpression" in request:
            assert request["FilterExpression"] == "attribute_not_exists(#listed)"
            found = [each for each in found if "listed" not in each[1]]
        return {"Items": [item for _, item in found]}

    def _write_alone(self, write: Item) -> Item:
        (request,) = write.values()
        address = _address(request.get("Item") or request["Key"])
        with self._lock:
            if address in self._locked:
                raise self._error("TransactionConflictException")
            if reason := self._failed(address, request):
                raise self._error("ConditionalCheckFailedException", Item=reason.get("Item", {}))
            after = self._after(address, write)
            self._use("write", [address], [after], 1)
            self._apply([address], [after])
        self.time.sleep(READ_SECONDS)
        self._respond()
        return {}

    def _respond(self) -> None:
        if random.random() < self.lost:
            raise ReadTimeoutError(endpoint_url="https://dynamodb")

    @contextmanager
    def _holding(self, addresses: list[Address]) -> Iterator[None]:
        """Keep other transactions from these items, or raise the error of a conflict."""
        with self._lock:
            held = [address in self._locked for address in addresses]
            if any(held):
                raise self._cancelled([{"Code": "TransactionConflict" if each else "None"} for each in held])
            self._locked.update(addresses)
        try:
            yield
        finally:
            self._locked.difference_update(addresses)

    def _use(self, operation: str, addresses: list[Address], after: list[Item | None], factor: int) -> None:
        """Use the units of writes, or raise the error of a throttled call."""
        size = units = 0
        costs: Counter[str] = Counter()
        for address, item in zip(addresses, after, strict=True):
            own = size_of(item) if item else 0
            if own > LARGEST_ITEM:
                raise self._error("ValidationException", "Item size has exceeded the maximum allowed size")
            kilobytes = max(1, -(-max(own, self._sizes.get(address, 0)) // 1024))
            costs[address[0]] += factor * kilobytes
            if item and "feed" in item:
                costs[f"index {item['feed']['S']}"] += kilobytes
            size += own
        for partition, cost in costs.items():
            if not self._take("write", partition, cost, WRITES):
                raise self._cancelled([{"Code": "ThrottlingError"}])
            units += cost
        self.usage.append(Usage(operation, len(addresses), size, units))

    def _take(self, kind: str, partition: str, units: int, most: int) -> bool:
        """Whether a partition still has so many units in this second."""
        second = (kind, partition, int(self.time.time()))
        if self._used[second] and self._used[second] + units > most:
            return False
        self._used[second] += units
        return True

    def _failed(self, address: Address, request: Item) -> Item | None:
        """The reason why a condition does not hold."""
        before = self.items.get(address)
        if "ConditionExpression" not in request or _holds(request, before or {}):
            return None
        old = request.get("ReturnValuesOnConditionCheckFailure") == "ALL_OLD" and before
        return {"Code": "ConditionalCheckFailed"} | ({"Item": dict(before)} if old and before else {})

    def _after(self, address: Address, write: Item) -> Item | None:
        """The item after a write; None if there is none."""
        ((kind, request),) = write.items()
        before = self.items.get(address)
        if kind == "Put":
            return dict(request["Item"])
        if kind == "Update":
            return _updated(request, before or dict(request["Key"]))
        return before if kind == "ConditionCheck" else None

    def _apply(self, addresses: list[Address], after: list[Item | None]) -> None:
        if self.ends_after is not None:
            self.ends_after -= 1
            if self.ends_after < 0:
                raise Killed
        for address, item in zip(addresses, after, strict=True):
            if item is None:
                self.items.pop(address, None)
                self._sizes.pop(address, None)
            else:
                self.items[address], self._sizes[address] = item, size_of(item)

    def _cancelled(self, reasons: list[Item]) -> ClientError:
        return self._error("TransactionCanceledException", CancellationReasons=reasons)

    def _error(self, code: str, message: str = "", **more: Any) -> ClientError:
        codes = {reason["Code"] for reason in more.get("CancellationReasons", ())} - {"None"} or {code}
        self.refused.update(codes)
        return ClientError({"Error": {"Code": code, "Message": message}, **more}, "call")


def limited_table(now: float, monkeypatch: pytest.MonkeyPatch) -> LimitedDynamoDB:
    """A new table, which every DynamoStore has from now on, and whose time all of them go by."""
    table = LimitedDynamoDB(SimulatedTime(now))
    monkeypatch.setattr("processing.store.dynamo.calls.client", lambda *_, **__: table)
    for module in ("attributes", "calls", "profile_items", "profiles", "recording", "refresh", "store"):
        monkeypatch.setattr(f"processing.store.dynamo.{module}.time", table.time)
    return table


def size_of(item: Mapping[str, Any]) -> int:
    """The size of an item in bytes, as the service counts it."""
    return sum(len(name.encode()) + _size(value) for name, value in item.items())


def _size(attribute: Mapping[str, Any]) -> int:
    ((kind, value),) = attribute.items()
    match kind:
        case "S":
            return len(value.encode())
        case "N":
            return len(value.lstrip("-").rstrip("0")) // 2 + 2
        case "B":
            return len(value)
        case "L":
            return 3 + sum(1 + _size(each) for each in value)
        case "M":
            return 3 + sum(1 + len(name.encode()) + _size(each) for name, each in value.items())
    return 1


def _ordered(value: str, kind: str) -> Any:
    return Decimal(value) if kind == "N" else value


def _address(key: Mapping[str, Any]) -> Address:
    return key["pk"]["S"], key["sk"]["S"]


class _Value:
    """An attribute or a value in a condition. One that is missing equals nothing and is smaller than nothing."""

    def __init__(self, attribute: Item | None) -> None:
        self.attribute = attribute

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Value) and self.attribute is not None and self.attribute == other.attribute

    __hash__ = None  # type: ignore[assignment]

    def __lt__(self, other: "_Value") -> bool:
        if self.attribute is None or other.attribute is None:
            return False
        return Decimal(self.attribute["N"]) < Decimal(other.attribute["N"])


def _holds(request: Item, item: Item) -> bool:
    """Whether the condition of a request holds for an item."""
    names, values = request.get("ExpressionAttributeNames", {}), request.get("ExpressionAttributeValues", {})
    text = re.sub(r"attribute_not_exists\((#\w+)\)", r"missing('\1')", request["ConditionExpression"])
    text = re.sub(r"(?<!')#\w+", lambda name: f"own('{name[0]}')", text)
    text = re.sub(r":\w+", lambda name: f"given('{name[0]}')", text)
    text = re.sub(r" = ", " == ", text).replace(" AND ", " and ").replace(" OR ", " or ")
    terms = {
        "missing": lambda name: names[name] not in item,
        "own": lambda name: _Value(item.get(names[name])),
        "given": lambda name: _Value(values[name]),
        "__builtins__": {},
    }
    return bool(eval(text, terms))


def _updated(request: Item, before: Item) -> Item:
    """The item after `SET #a = :a, ... ADD #b :b, ...`."""
    names, values, item = request["ExpressionAttributeNames"], request["ExpressionAttributeValues"], dict(before)
    setting, _, adding = request["UpdateExpression"].removeprefix("SET ").partition(" ADD ")
    for part in setting.split(", "):
        name, value = part.split(" = ")
        item[names[name]] = values[value]
    for part in filter(None, adding.split(", ")):
        name, value = part.split(" ")
        before_value = Decimal(item.get(names[name], {"N": "0"})["N"])
        item[names[name]] = {"N": str(before_value + Decimal(values[value]["N"]))}
    return item
