"""Choose and open the online store of a home.

A new kind of store is a module beside `sqlite/` and `dynamo/`, and one line in STORES.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from processing.contract import Contract
from processing.errors import BadInput, FraudlineError
from processing.storage.home import Home
from processing.storage.local import LocalHome
from processing.store.binding import FormerDigests
from processing.store.interface import OnlineStore, Replay, StoreUnavailable

SQLITE, DYNAMODB = "sqlite", "dynamodb"
STORE_KEY = "online/store.sqlite"  # in a local home

Opener = Callable[[str, Contract, float, FormerDigests, Sequence[Contract]], OnlineStore]


def _open_sqlite(
    path: str, contract: Contract, timeout: float, former: FormerDigests, others: Sequence[Contract]
) -> OnlineStore:
    from processing.store.sqlite.store import SqliteStore

    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreUnavailable(f"cannot create the folder of the online store: {error}") from error
    return SqliteStore(Path(path), contract, timeout=timeout, former=former, others=others)


def _open_dynamo(
    table: str, contract: Contract, timeout: float, former: FormerDigests, others: Sequence[Contract]
) -> OnlineStore:
    from processing.store.dynamo.store import DynamoStore

    return DynamoStore(table, contract, timeout=timeout, former=former, others=others)


# By the scheme of the store's address. An opener imports its store only when it is called.
STORES: dict[str, Opener] = {SQLITE: _open_sqlite, DYNAMODB: _open_dynamo}


def open_store(home: Home, contract: Contract, *, timeout: float = 2.0) -> OnlineStore:
    """The online store of a home. `timeout` in seconds limits every call.

    A local home has a SQLite file, a home in S3 the DynamoDB table named by FRAUDLINE_ONLINE_TABLE (`fraudline` if it
    is not set). Raises StoreUnavailable, and BadInput if the store belongs to another contract.
    """

    def former() -> Iterator[str]:
        from processing.contracts.home_contract import earlier_digests

        with suppress(FraudlineError):  # without access to the runs no former contract is known
            yield from earlier_digests(home, contract)

    scheme, target = _address(home)
    if scheme not in STORES:
        raise BadInput(f"FRAUDLINE_ONLINE_TABLE names an online store of kind {scheme!r}; known: {', '.join(STORES)}")
    return STORES[scheme](target, contract, timeout, former, _contracts_of_models(home))


def _contracts_of_models(home: Home) -> list[Contract]:
    """The contracts of the models that may serve: the store keeps what they need, too."""
    from processing.contracts.model_contract import contracts_of_models

    with suppress(FraudlineError):  # without access to the models none is known to need more
        return [contract for _, contract in contracts_of_models(home, lambda version, why: None)]
    return []


def open_replay(home: LocalHome, contract: Contract, folder: Path) -> Replay:
    """A copy of a local home's online store in `folder`, to count further transactions in."""
    from processing.store.sqlite.replay import SqliteReplay

    return SqliteReplay(home.path(STORE_KEY), folder, contract, _contracts_of_models(home))


def _address(home: Home) -> tuple[str, str]:
    """The scheme of a home's online store, and what its opener takes. `<scheme>://...` in the variable wins."""
    setting = os.environ.get("FRAUDLINE_ONLINE_TABLE") or "fraudline"
    scheme, separator, rest = setting.partition("://")
    if separator:
        return scheme, rest
    return (SQLITE, str(home.path(STORE_KEY))) if isinstance(home, LocalHome) else (DYNAMODB, setting)
