"""Create a table in the catalog, and check one that is there against the contract."""

from datetime import UTC, datetime

import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.transforms import DayTransform
from pyiceberg.types import DoubleType, IcebergType, IntegerType, LongType, NestedField, StringType, TimestamptzType

from processing.errors import BadInput, Damaged
from processing.storage.home import Home
from processing.tables.catalog import REPAIR, namespace
from processing.tables.locations import key_of, location_of
from processing.tables.reading import reading
from processing.tables.schemas import TIME
from processing.tables.snapshots import definition_of

BY_DAY = ("transactions", "features")
TYPES: dict[pa.DataType, IcebergType] = {
    pa.string(): StringType(),
    pa.int32(): IntegerType(),
    pa.int64(): LongType(),
    pa.float64(): DoubleType(),
    TIME: TimestamptzType(),
}


def create_table(home: Home, catalog: Catalog, name: str, schema: pa.Schema) -> Table:
    """Create a table, partitioned by day if it is in BY_DAY."""
    space = namespace(home)
    fields = [NestedField(i, field.name, TYPES[field.type]) for i, field in enumerate(schema, 1)]
    by_day = PartitionField(2, 1000, DayTransform(), "day")  # of the second column, event_time
    return catalog.create_table(
        (space, name),
        Schema(*fields),  # every column is optional, as Spark writes them
        location=location_of(home, f"warehouse/{space}/{name}"),
        partition_spec=PartitionSpec(by_day) if name in BY_DAY else PartitionSpec(),
    )


def set_aside(home: Home, catalog: Catalog, name: str) -> None:
    """Rename a table, so that a new one can take its name."""
    space = namespace(home)
    catalog.rename_table((space, name), (space, f"{name}_until_{datetime.now(UTC):%Y%m%dt%H%M%S}"))


def load_table(home: Home, catalog: Catalog, name: str, schema: pa.Schema, definition: str) -> Table | None:
    """A table from the catalog; None if there is none, if it is empty, or if its features are defined differently.

    A table may lack columns of the schema, and have others: the contract has changed. `definition` is the digest of the
    features' definition. Raises Damaged, and BadInput if its columns cannot be those of the contract.
    """
    try:
        with reading(f"the table {name} of the home {home.url}"):
            table = catalog.load_table((namespace(home), name))
    except NoSuchTableError:
        raise_if_lost(home, catalog, name)
        return None
    key_of(home, table.metadata_location)
    if getattr(table.metadata, "last_sequence_number", 0) and not table.current_snapshot():
        raise Damaged(f"{table.metadata_location} does not say which snapshot of {name} is the newest; {REPAIR}")
    types = {field.name: field.field_type for field in table.schema().fields}
    if name == "features":
        fits = list(types) == schema.names and definition_of(table) in (None, definition)
        return table if fits else None
    wrong = [field.name for field in schema if types.get(field.name, _addable(field)) != TYPES[field.type]]
    if not wrong:
        return table
    if table.current_snapshot():  # an empty one comes from a run that did not commit
        raise BadInput(
            f"the table {name} of the home {home.url} has the columns {', '.join(types)}; the contract needs "
            f"{', '.join(schema.names)}, and {', '.join(wrong)} cannot be added. Use a contract that the home had, or "
            "another home"
        )
    return None


def _addable(field: pa.Field) -> IcebergType | None:
    """The type of a column that a table with rows may get, where these have no value."""
    return TYPES[field.type] if field.nullable else None


def stored_schema(table: Table | None, schema: pa.Schema) -> pa.Schema:
    """The columns of the schema, and those that a table has besides, of earlier contracts."""
    if table is None:
        return schema
    arrow = {iceberg: kind for kind, iceberg in TYPES.items()}
    more = [field for field in table.schema().fields if field.name not in schema.names]
    return pa.schema([*schema, *(pa.field(field.name, arrow[field.field_type]) for field in more)])


def missing_columns(table: Table, schema: pa.Schema) -> dict[str, IcebergType]:
    """The columns of the schema that a table lacks, and their types."""
    known = {field.name for field in table.schema().fields}
    return {field.name: TYPES[field.type] for field in schema if field.name not in known}


def raise_if_lost(home: Home, catalog: Catalog | None, name: str) -> None:
    """Raise Damaged if a home has snapshots of a table that no catalog knows, not even under another name."""
    space = namespace(home)
    folders = (f"warehouse/{space}/{name}/metadata/", f"warehouse/{name}/metadata/")  # the second is Glue's own
    if not any("/snap-" in entry.key for folder in folders for entry in home.entries(folder)):
        return
    listed = catalog.list_tables(space) if catalog else []
    if not any(identifier[-1].startswith(f"{name}_") for identifier in listed):
        raise Damaged(f"the catalog of the home {home.url} lacks the table {name}, although its files exist; {REPAIR}")
