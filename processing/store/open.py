"""Which online store a home has: SQLite in a folder, DynamoDB in the cloud."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from processing.contract import Contract
from processing.errors import FraudlineError
from processing.storage.home import Home
from processing.storage.local import LocalHome
from processing.store.interface import OnlineStore, StoreUnavailable


def open_store(home: Home, contract: Contract, *, timeout: float = 2.0) -> OnlineStore:
    """The online store of a home. `timeout` in seconds bounds every call.

    A home in S3 has it in the DynamoDB table that FRAUDLINE_ONLINE_TABLE names (`fraudline` if it is not set).
    """

    def former() -> Iterator[str]:
        from processing.contracts.home_contract import earlier_digests

        with suppress(FraudlineError):  # who may not look at the runs knows of no former contract
            yield from earlier_digests(home, contract)

    if not isinstance(home, LocalHome):
        from processing.store.dynamo.store import DynamoStore

        name = os.environ.get("FRAUDLINE_ONLINE_TABLE") or "fraudline"
        return DynamoStore(name, contract, timeout=timeout, former=former)
    from processing.store.sqlite.store import SqliteStore

    folder: Path = home.path("online")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreUnavailable(f"the folder of the online store cannot be made: {error}") from error
    return SqliteStore(folder / "store.sqlite", contract, timeout=timeout, former=former)
