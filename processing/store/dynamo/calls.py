"""Calls to one DynamoDB table, each with a time limit, retried while that may help."""

import random
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any

from processing.aws_client import client, code_of
from processing.store.dynamo.layout import Item, address
from processing.store.groups import groups_of
from processing.store.interface import StoreUnavailable

READ_AT_ONCE, WRITTEN_AT_ONCE = 100, 25  # items per call
TRANSIENT_REASONS = {"ThrottlingError", "ProvisionedThroughputExceeded", "None"}  # of a cancelled transaction
TOO_LARGE = "Item size"  # in the service's words for an item of more than 400 kB
TRANSIENT = {
    "InternalServerError",
    "LimitExceededException",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "ServiceUnavailable",
    "ThrottlingException",
    "TransactionConflictException",
    "TransactionInProgressException",
}


class Refused(Exception):
    """A condition did not hold, or another transaction has one of the items at this moment.

    `items` are the current items at the failed positions of the transaction; empty in the second case.
    """

    def __init__(self, items: dict[int, Item]) -> None:
        super().__init__("a condition did not hold")
        self.items = items


class Calls:
    """The calls to a table, safe for threads. Each raises StoreUnavailable if it has not succeeded by `ends`.

    `ends` is a time of `time.monotonic`. One attempt takes at most half of `timeout` seconds.
    """

    def __init__(self, table: str, timeout: float) -> None:
        self.table, self.timeout = table, timeout

    @cached_property
    def dynamodb(self) -> Any:
        # Calls.call retries, because it knows the time limit.
        return client("dynamodb", connect=self.timeout / 4, read=self.timeout / 4, attempts=1, connections=64)

    def ends(self, timeout: float | None = None) -> float:
        """The time by which a call that starts now must have succeeded."""
        return time.monotonic() + (self.timeout if timeout is None else timeout)

    def call(self, operation: str, ends: float, **arguments: Any) -> dict[str, Any]:
        """Make any call, by the name of its method. Raises Refused."""
        from botocore.exceptions import BotoCoreError, ClientError

        for attempt in range(1_000_000):
            try:
                response: dict[str, Any] = getattr(self.dynamodb, operation)(**arguments)
                return response
            except ClientError as error:
                self._raise_unless_transient(error)
                cause: Exception = error
            except BotoCoreError as error:  # unreachable, or a timeout
                cause = error
            self.pause(attempt, ends, cause)
        raise AssertionError("a call that never ends")

    def transact(self, changes: Sequence[Item], ends: float) -> None:
        """Make all changes or none. Raises Refused.

        An attempt whose response was lost is made only once, though it is repeated.
        """
        self.call("transact_write_items", ends, TransactItems=changes, ClientRequestToken=uuid.uuid4().hex)

    def close(self) -> None:
        """Release the connections; another call opens new ones."""
        self.dynamodb.close()

    def _raise_unless_transient(self, error: Any) -> None:
        code = code_of(error)
        if code == "TransactionCanceledException":
            reasons = error.response.get("CancellationReasons", [])
            codes = {reason.get("Code", "None") for reason in reasons}
            refused = {
                position: reason.get("Item", {})
                for position, reason in enumerate(reasons)
                if reason.get("Code") == "ConditionalCheckFailed"
            }
            if refused or "TransactionConflict" in codes:
                raise Refused(refused) from None
            if codes <= TRANSIENT_REASONS:
                return
        elif code == "ConditionalCheckFailedException":
            raise Refused({0: error.response.get("Item", {})}) from None
        elif code in TRANSIENT:
            return
        if TOO_LARGE in str(error):
            raise StoreUnavailable(
                f"{self._name()} refused an item of more than 400 kB: so many different transactions of one key are "
                "too much for its windows; set `busy = true` for its entity in the contract, or give it fewer windows "
                "of less than 12 hours"
            ) from error
        raise StoreUnavailable(f"{self._name()} refused: {error}; check its name, the region and the role") from error

    def pause(self, attempt: int, ends: float, cause: Exception | None) -> None:
        """Wait before the next attempt. Raises StoreUnavailable if that attempt might end too late."""
        seconds = random.uniform(0, min(0.2, 0.005 * 2 ** min(attempt, 10)))
        if time.monotonic() + seconds + self.timeout / 2 > ends:
            raise StoreUnavailable(f"{self._name()} does not answer in time: {cause or 'it is throttled'}") from cause
        time.sleep(seconds)

    def pause_for(self, refused: Refused, ends: float) -> None:
        """Wait before changes that were refused are made again: not long, or what was read of items is old again."""
        self.pause(0 if refused.items else 2, ends, refused)

    def _name(self) -> str:
        return f"the online store (DynamoDB table {self.table})"

    def get(self, keys: Iterable[Item], ends: float) -> dict[tuple[str, str], Item]:
        """The items with these keys that exist now, by `address`. One call for every hundred."""
        items: dict[tuple[str, str], Item] = {}
        for group in groups_of(list(keys), READ_AT_ONCE):
            pending: Any = group
            attempt = 0
            while pending:
                request = {self.table: {"Keys": pending, "ConsistentRead": True}}
                response = self.call("batch_get_item", ends, RequestItems=request)
                items.update({address(item): item for item in response["Responses"].get(self.table, [])})
                pending = response.get("UnprocessedKeys", {}).get(self.table, {}).get("Keys")
                if pending:
                    self.pause(attempt, ends, None)
                    attempt += 1
        return items

    def put_all(self, items: Sequence[Item], ends: float) -> None:
        """Write items, replacing existing ones. Pass at most WRITTEN_AT_ONCE, with different keys."""
        pending: Any = [{"PutRequest": {"Item": item}} for item in items]
        attempt = 0
        while pending:
            response = self.call("batch_write_item", ends, RequestItems={self.table: pending})
            pending = response.get("UnprocessedItems", {}).get(self.table)
            if pending:
                self.pause(attempt, ends, None)
                attempt += 1

    def update(self, key: Item, expression: str, values: Item, condition: str = "") -> dict[str, Any]:
        """The arguments of an update, in a transaction or alone. In expressions, #name is the attribute `name`."""
        request = {
            "TableName": self.table,
            "Key": key,
            "UpdateExpression": expression,
            "ExpressionAttributeNames": _names(f"{expression} {condition}"),
            "ExpressionAttributeValues": values,
        }
        if condition:
            request |= {"ConditionExpression": condition, "ReturnValuesOnConditionCheckFailure": "ALL_OLD"}
        return request

    def check(self, key: Item, condition: str, values: Item) -> Item:
        """A condition, in a transaction, on an item that the transaction does not change."""
        request = {"TableName": self.table, "Key": key, "ConditionExpression": condition}
        request["ExpressionAttributeNames"] = _names(condition)
        return {"ConditionCheck": request | ({"ExpressionAttributeValues": values} if values else {})}

    def put(self, item: Item, condition: str = "", values: Item | None = None) -> dict[str, Any]:
        """The arguments of a put, in a transaction or alone."""
        request: dict[str, Any] = {"TableName": self.table, "Item": item}
        if condition:
            request |= {"ConditionExpression": condition, "ReturnValuesOnConditionCheckFailure": "ALL_OLD"}
            request["ExpressionAttributeNames"] = _names(condition)
        if values:
            request["ExpressionAttributeValues"] = values
        return request

    def query(self, ends: float, limit: int | None = None, **arguments: Any) -> list[Item]:
        """The items of a query, from all its pages, but at most `limit`."""
        items: list[Item] = []
        for page in self.pages(lambda: ends, limit, **arguments):
            items += page
            if limit and len(items) >= limit:
                break
        return items[:limit]

    def pages(self, ends: Callable[[], float], limit: int | None = None, **arguments: Any) -> Iterator[list[Item]]:
        """The items of a query, page by page. `ends` returns the time limit of the next page."""
        more: dict[str, Any] = {"Limit": limit} if limit else {}
        while True:
            page = self.call("query", ends(), TableName=self.table, **arguments, **more)
            yield page["Items"]
            if "LastEvaluatedKey" not in page:
                return
            more["ExclusiveStartKey"] = page["LastEvaluatedKey"]


def _names(expression: str) -> dict[str, str]:
    """What each #name in an expression stands for. Attributes need this as some names are reserved words."""
    words = expression.replace("(", " ").replace(")", " ").replace(",", " ").split()
    return {word: word[1:] for word in words if word.startswith("#")}
