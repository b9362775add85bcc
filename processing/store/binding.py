"""Whether an online store belongs to a contract."""

from collections.abc import Callable, Iterable

from processing.contract import Contract

FormerDigests = Callable[[], Iterable[str]]  # of contracts this home had before and that the present one may follow


def is_bound_to(contract: Contract, digest: str, fingerprint: str | None, former: FormerDigests) -> bool:
    """Whether a store that recorded this digest and fingerprint belongs to the contract.

    Stores of earlier versions have no fingerprint, only the digest of the contract's text. That text may have changed
    since in ways that do not matter to a store, hence the digests of former contracts.
    """
    if fingerprint is not None:
        return fingerprint == contract.fingerprint
    return digest == contract.digest or digest in former()
