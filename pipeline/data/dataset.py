"""A training or test set, read from the Parquet files that the feature job writes for a run."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from processing.arrays import Floats, Ints
from processing.contract import Contract
from processing.durations import DAY_US
from processing.errors import BadInput, Damaged
from processing.features.feature_set import FeatureSet
from processing.features.table_features import entity_codes
from processing.split import date_of
from processing.tables.parquet import FAULTS, READ, check_footer, first_line
from processing.tables.schemas import features_schema

REMEDY = "run `fraudline home repair`, then run the pipeline again, which rewrites the sets"


@dataclass(frozen=True)
class Dataset:
    """n rows in the order of their times, then of their ids.

    X: features, [n, m] float64, in the order of `FeatureSet(contract).names`; NaN means a missing value
    y: 1 for fraud, else 0, [n] int8
    amount: what a missed fraud loses, in major units, [n] float64: the transaction's amount, 0 for a refund
    day: UTC days since 1970, [n] int64
    entities: for each entity name of the contract, the entity of every row, [n]: its id, or for one of several columns
        a number
    ids: the transactions' ids, [n] objects, each a str
    digest: SHA-256 of the content, independent of the order of the rows and their spread over files
    """

    X: Floats
    y: NDArray[np.int8]
    amount: Floats
    day: Ints
    entities: dict[str, NDArray[np.str_] | Ints]
    ids: NDArray[np.object_]
    digest: str

    @property
    def rows(self) -> int:
        return len(self.y)

    @property
    def frauds(self) -> int:
        return int(np.count_nonzero(self.y))

    @property
    def learnable(self) -> bool:
        """Whether the rows hold both frauds and legitimate transactions."""
        return 0 < self.frauds < self.rows

    @property
    def window(self) -> dict[str, str]:
        """The first and the last day, as dates: {"first_day", "last_day"}."""
        first, last = (date_of(day).isoformat() for day in (self.day[0], self.day[-1]))
        return {"first_day": first, "last_day": last}

    @property
    def period(self) -> str:
        """The first and the last day in words."""
        return f"{self.window['first_day']} to {self.window['last_day']}"

    def part(self, rows: slice) -> "Dataset":
        """Some of the rows, as views. The digest remains the whole set's."""
        entities = {name: values[rows] for name, values in self.entities.items()}
        return Dataset(
            self.X[rows], self.y[rows], self.amount[rows], self.day[rows], entities, self.ids[rows], self.digest
        )


def read(folder: Path, contract: Contract) -> Dataset:
    """The rows of every .parquet file below a folder, except names that begin with . or _.

    Extra columns are ignored, and so are rows whose label is not known yet. Raises BadInput, naming file and column,
    if a column is missing, has another type or has nulls, and if the set has no rows, no frauds, only frauds, or an
    id twice; Damaged if a file is damaged.
    """
    columns = _columns(contract, FeatureSet(contract))
    paths = [path for path in sorted(folder.rglob("*.parquet")) if not _hidden(path.relative_to(folder))]
    never_null = [field.name for field in features_schema(contract) if not field.nullable]
    tables = [_labelled(_read_file(path, columns, never_null), columns, str(path)) for path in paths]
    if not any(table.num_rows for table in tables):
        raise BadInput(f"{folder} has no rows: found {len(paths)} Parquet files; use a longer period of data")
    return _dataset(pa.concat_tables(tables), contract, str(folder))


def of_table(table: Any, contract: Contract, source: str) -> Dataset:
    """The rows of an Arrow table with the columns of a set, as `read` returns those of files. Raises BadInput."""
    columns = _columns(contract, FeatureSet(contract))
    table = _labelled(table.select(list(columns)), columns, source)
    if not table.num_rows:
        raise BadInput(f"{source} has no labelled rows; use a longer period of data")
    return _dataset(table, contract, source)


def _dataset(table: Any, contract: Contract, source: str) -> Dataset:
    features = FeatureSet(contract)
    table = table.sort_by([("event_time", "ascending"), ("transaction_id", "ascending")]).combine_chunks()
    _check_rows(table, source)

    time_us = _integers(table["event_time"])
    amount_minor, y = _integers(table["amount_minor"]), _integers(table["is_fraud"])
    X = np.empty((table.num_rows, len(features.names)), np.float64)  # noqa: N806 (scikit-learn's name)
    for j, name in enumerate(features.names):
        X[:, j] = table[name].to_numpy()
    X[np.isnan(X)] = np.nan  # one bit pattern for every missing value
    texts = {name: table[name].to_pylist() for name in ("transaction_id", *contract.key_names)}
    return Dataset(
        X=X,
        y=y.astype(np.int8),
        amount=np.maximum(amount_minor, 0) / float(contract.minor_units),
        day=time_us // DAY_US,
        entities={entity.name: _entities(contract.key_names_of(entity), table, texts) for entity in contract.entities},
        ids=np.array(texts["transaction_id"], np.object_),  # long and distinct: fixed width would take 4 x the memory
        digest=_digest({"event_time": time_us, "amount_minor": amount_minor, "is_fraud": y}, texts, features, X),
    )


def _entities(names: Sequence[str], table: Any, texts: Mapping[str, list[str]]) -> NDArray[np.str_] | Ints:
    return np.array(texts[names[0]], np.str_) if len(names) == 1 else entity_codes(names, table)


def _hidden(path: Path) -> bool:
    return any(part.startswith((".", "_")) for part in path.parts)


def _columns(contract: Contract, features: FeatureSet) -> dict[str, tuple[str, Callable[[Any], bool]]]:
    """By column name: the expected type, in words and as a test of an Arrow type."""
    string = ("string", lambda kind: pa.types.is_string(kind) or pa.types.is_large_string(kind))
    return {
        "transaction_id": string,
        "event_time": (
            "timestamp[us, UTC]",
            lambda kind: pa.types.is_timestamp(kind) and kind.unit == "us" and kind.tz is not None,
        ),
        "amount_minor": ("int64", pa.types.is_int64),
        "is_fraud": ("int8 or int32", lambda kind: pa.types.is_int8(kind) or pa.types.is_int32(kind)),
        **dict.fromkeys(contract.key_names, string),
        **dict.fromkeys(features.names, ("double", pa.types.is_float64)),
    }


def _read_file(path: Path, columns: Mapping[str, Any], never_null: Sequence[str]) -> Any:
    """The set's columns of one file, as an Arrow table."""
    try:
        with pq.ParquetFile(path, **READ) as file:
            present = file.schema_arrow.names
            if not set(columns) - set(present):
                check_footer(file, never_null=never_null)
                return file.read(columns=list(columns)).select(list(columns))
    except FAULTS as error:
        raise Damaged(f"{path} is damaged: {first_line(error)}; {REMEDY}") from None
    missing = [name for name in columns if name not in present]
    raise BadInput(f"{path} lacks the column {', '.join(missing)}; it has {', '.join(present)}")


def _labelled(table: Any, columns: Mapping[str, tuple[str, Callable[[Any], bool]]], source: str) -> Any:
    """The labelled rows of a table, in the types that all tables are joined in. Raises BadInput, Damaged."""
    for name, (expected, fits) in columns.items():
        try:
            matches = fits(table.schema.field(name).type)
        except UnicodeDecodeError:  # in a time zone
            raise Damaged(f"{source} is damaged: the type of the column {name} cannot be read; {REMEDY}") from None
        if not matches:
            raise BadInput(f"{source}: column {name} is {table.schema.field(name).type}, expected {expected}")
    types = {"transaction_id": pa.large_string(), "event_time": pa.timestamp("us", "UTC"), "is_fraud": pa.int8()}
    target = [pa.field(f.name, types.get(f.name, _widest(f.type))) for f in table.schema]
    try:
        return table.cast(pa.schema(target)).filter(pc.is_valid(table["is_fraud"]))
    except pa.ArrowInvalid:
        raise BadInput(f"{source}: column is_fraud holds values other than 0 and 1") from None


def _widest(kind: Any) -> Any:
    return pa.large_string() if pa.types.is_string(kind) else kind


def _check_rows(table: Any, source: str) -> None:
    features_from = table.schema.names.index("is_fraud") + 1
    for name in table.schema.names:
        nullable = table.schema.names.index(name) >= features_from and pa.types.is_float64(
            table.schema.field(name).type
        )
        if table[name].null_count and not nullable:
            raise BadInput(f"{source}: column {name} has {table[name].null_count} nulls, expected none")
    labels = set(pc.unique(table["is_fraud"]).to_pylist())
    if labels - {0, 1}:
        raise BadInput(f"{source}: column is_fraud holds values other than 0 and 1")
    if len(labels) == 1:
        kind = "frauds" if labels == {0} else "legitimate transactions"
        raise BadInput(
            f"{source} has {table.num_rows} rows but no {kind}, so a model can neither learn nor be measured on it; "
            "use a longer period of data"
        )
    counts = pc.value_counts(table["transaction_id"])
    twice = counts.filter(pc.greater(counts.field("counts"), 1))
    if len(twice):
        raise BadInput(f"{source} holds {len(twice)} transaction(s) more than once; keep one row of each")


def _integers(column: Any) -> Ints:
    values: Ints = column.cast(pa.int64()).to_numpy()
    return values


def _digest(numbers: dict[str, Ints], texts: dict[str, list[str]], features: FeatureSet, X: Floats) -> str:  # noqa: N803
    """SHA-256 over the names, then the columns. Texts come with their lengths, so that they cannot run together."""
    digest = hashlib.sha256("\n".join([*numbers, *texts, *features.names]).encode())
    for values in numbers.values():
        digest.update(values.astype("<i8").tobytes())
    for column in texts.values():
        encoded = [text.encode() for text in column]
        digest.update(np.array([len(text) for text in encoded], "<i8").tobytes())
        digest.update(b"".join(encoded))
    for column in X.T:  # one by one, which takes less memory
        digest.update(column.astype("<f8").tobytes())
    return digest.hexdigest()
