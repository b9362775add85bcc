"""The Arrow schemas of a contract's rows, in the tables and during intake."""

import hashlib

import pyarrow as pa

from processing.contract import Contract
from processing.features.feature_set import FeatureSet

TIME = pa.timestamp("us", tz="UTC")


def transaction_schema(contract: Contract) -> pa.Schema:
    """The columns of an accepted transaction. Only the key columns and the extra columns depend on the contract."""
    return pa.schema(
        [
            pa.field("transaction_id", pa.string(), nullable=False),
            pa.field("event_time", TIME, nullable=False),
            pa.field("amount_minor", pa.int64(), nullable=False),
            pa.field("is_fraud", pa.int32()),
            *(pa.field(name, pa.string(), nullable=False) for name in contract.key_names),
            *(pa.field(name, pa.float64()) for name in contract.numeric),
            *(pa.field(name, pa.string()) for name in contract.categorical),
        ]
    )


def features_schema(contract: Contract) -> pa.Schema:
    """A row of the features table: the transaction's id, time, amount, label and keys, and its features."""
    fields = list(transaction_schema(contract))[: 4 + len(contract.key_names)]
    return pa.schema([*fields, *(pa.field(name, pa.float64()) for name in FeatureSet(contract).names)])


def definition_digest(contract: Contract) -> str:
    """A digest of all that the values of a contract's features depend on."""
    return hashlib.sha256(repr(FeatureSet(contract).definition).encode()).hexdigest()[:16]


def intake_schema(contract: Contract) -> pa.Schema:
    """A row as read: the transaction's columns (null if refused), file and line, why it was refused, raw content."""
    fields = [field.with_nullable(True) for field in transaction_schema(contract)]
    origin = [("file", pa.string()), ("line", pa.int64()), ("reason", pa.string()), ("content", pa.string())]
    return pa.schema([*fields, *(pa.field(name, kind) for name, kind in origin)])


def quarantine_schema() -> pa.Schema:
    """A refused row: its run, file and line, why it was refused, its whole content, and the digest of its file."""
    fields = [("run", pa.string()), ("refused_at", pa.timestamp("us", tz="UTC")), ("file", pa.string())]
    fields += [("line", pa.int64()), ("reason", pa.string()), ("content", pa.string()), ("file_sha256", pa.string())]
    return pa.schema(fields)
