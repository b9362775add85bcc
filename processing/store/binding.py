"""Whether an online store belongs to a contract."""

from collections.abc import Callable, Iterable

from processing.contract import Contract

FormerDigests = Callable[[], Iterable[str]]  # of contracts that this home had before


def is_bound_to(contract: Contract, digest: str, fingerprint: str | None, former: FormerDigests) -> bool:
    """Whether a store that recorded this digest and fingerprint belongs to the home of a contract.

    A home's contract may change in what a store does not depend on, but never in its fingerprint. Stores of earlier
    versions have no fingerprint, or one of all entries. They are recognised by the digest of the contract's text, or of
    one that the home had before.
    """
    return fingerprint == contract.fingerprint or digest == contract.digest or digest in former()
