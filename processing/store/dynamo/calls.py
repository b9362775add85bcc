"""Calls to one DynamoDB table: within a time limit, tried again while that may help."""

import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any

from processing.aws_client import client, code_of
from processing.store.dynamo.items import Item, address
from processing.store.interface import StoreUnavailable

READ_AT_ONCE, WRITTEN_AT_ONCE = 100, 25  # what one call takes
CONFLICTS = {"TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded", "None"}
PASSING = {
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
    """A condition did not hold. `items`: by place in the transaction, what stands where it did not."""

    def __init__(self, items: dict[int, Item]) -> None:
        super().__init__("a condition did not hold")
        self.items = items


class Calls:
    """The table's calls, safe for threads. Each raises StoreUnavailable when it does not succeed by `ends`.

    `ends` is a time of `time.monotonic`; one attempt takes at most half of `timeout` seconds.
    """

    def __init__(self, table: str, timeout: float) -> None:
        self.table, self.timeout = table, timeout

    @cached_property
    def dynamodb(self) -> Any:
        # A try again is made here, where the time limit is known.
        return client("dynamodb", connect=self.timeout / 4, read=self.timeout / 4, attempts=1, connections=64)

    def ends(self, timeout: float | None = None) -> float:
        """When a call that begins now must have succeeded."""
        return time.monotonic() + (self.timeout if timeout is None else timeout)

    def call(self, operation: str, ends: float, **arguments: Any) -> dict[str, Any]:
        """Any call, by its method's name. Raises Refused."""
        from botocore.exceptions import BotoCoreError, ClientError

        for attempt in range(1_000_000):
            try:
                answer: dict[str, Any] = getattr(self.dynamodb, operation)(**arguments)
                return answer
            except ClientError as error:
                self._give_up_unless_passing(error)
                cause: Exception = error
            except BotoCoreError as error:  # out of reach, or no answer in time
                cause = error
            self.pause(attempt, ends, cause)
        raise AssertionError("a call that never ends")

    def close(self) -> None:
        """Release the connections; another call opens new ones."""
        self.dynamodb.close()

    def _give_up_unless_passing(self, error: Any) -> None:
        code = code_of(error)
        if code == "TransactionCanceledException":
            reasons = error.response.get("CancellationReasons", [])
            refused = {
                place: reason.get("Item", {})
                for place, reason in enumerate(reasons)
                if reason.get("Code") == "ConditionalCheckFailed"
            }
            if refused:
                raise Refused(refused) from None
            if all(reason.get("Code", "None") in CONFLICTS for reason in reasons):
                return
        elif code == "ConditionalCheckFailedException":
            raise Refused({0: error.response.get("Item", {})}) from None
        elif code in PASSING:
            return
        raise StoreUnavailable(f"{self._what()} refused: {error}; check its name, region and the role") from error

    def pause(self, attempt: int, ends: float, cause: Exception | None) -> None:
        """Wait before the next attempt. Raises StoreUnavailable if that one might end too late."""
        seconds = random.uniform(0, min(0.2, 0.005 * 2 ** min(attempt, 10)))
        if time.monotonic() + seconds + self.timeout / 2 > ends:
            raise StoreUnavailable(f"{self._what()} does not answer in time: {cause or 'it is throttled'}") from cause
        time.sleep(seconds)

    def _what(self) -> str:
        return f"the online store (DynamoDB table {self.table})"

    def get(self, keys: Iterable[Item], ends: float) -> dict[tuple[str, str], Item]:
        """The items there are of those, as they stand now, by `address`. One call for every hundred."""
        wanted, found = list(keys), {}
        for start in range(0, len(wanted), READ_AT_ONCE):
            asked: Any = wanted[start : start + READ_AT_ONCE]
            attempt = 0
            while asked:
                request = {self.table: {"Keys": asked, "ConsistentRead": True}}
                answer = self.call("batch_get_item", ends, RequestItems=request)
                found.update({address(item): item for item in answer["Responses"].get(self.table, [])})
                asked = answer.get("UnprocessedKeys", {}).get(self.table, {}).get("Keys")
                if asked:
                    self.pause(attempt, ends, None)
                    attempt += 1
        return found

    def put_all(self, items: Sequence[Item], ends: float) -> None:
        """Store items, whatever stands there; at most as many as one call takes, each of another key."""
        asked: Any = [{"PutRequest": {"Item": item}} for item in items]
        attempt = 0
        while asked:
            answer = self.call("batch_write_item", ends, RequestItems={self.table: asked})
            asked = answer.get("UnprocessedItems", {}).get(self.table)
            if asked:
                self.pause(attempt, ends, None)
                attempt += 1

    def update(self, key: Item, expression: str, values: Item, condition: str = "") -> dict[str, Any]:
        """An update as a member of a transaction, or, with `**`, a call of its own. #name: the attribute `name`."""
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
        """A condition on an item that a transaction leaves as it is."""
        request = {"TableName": self.table, "Key": key, "ConditionExpression": condition}
        names = {"ExpressionAttributeNames": _names(condition)}
        if values:
            names["ExpressionAttributeValues"] = values
        return {"ConditionCheck": request | names}

    def query(self, ends: float, limit: int | None = None, **arguments: Any) -> list[Item]:
        """The items of a query, page after page; not more than `limit`."""
        found: list[Item] = []
        for page in self.pages(lambda: ends, limit, **arguments):
            found += page
            if limit and len(found) >= limit:
                break
        return found[:limit]

    def pages(self, ends: Callable[[], float], limit: int | None = None, **arguments: Any) -> Iterator[list[Item]]:
        """The items of a query, page by page; `ends` gives the time by which the next one must be there."""
        more: dict[str, Any] = {"Limit": limit} if limit else {}
        while True:
            page = self.call("query", ends(), TableName=self.table, **arguments, **more)
            yield page["Items"]
            if "LastEvaluatedKey" not in page:
                return
            more["ExclusiveStartKey"] = page["LastEvaluatedKey"]


def _names(expression: str) -> dict[str, str]:
    """Every #name in an expression stands for the attribute of that name: some names are reserved words."""
    words = expression.replace("(", " ").replace(")", " ").replace(",", " ").split()
    return {word: word[1:] for word in words if word.startswith("#")}
