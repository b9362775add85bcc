"""The Iceberg catalog of a home: a SQLite file on a laptop, the Glue Data Catalog for a home in S3.

Opening it changes nothing; call `create_catalog` before a commit.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from pyiceberg.catalog import Catalog

from processing.aws_client import CONNECT_SECONDS, READ_SECONDS, endpoint, refusal, region
from processing.errors import Damaged, FraudlineError, NotFound
from processing.storage.home import Home
from processing.storage.local import LocalHome

NAMESPACE = "fraudline"
CATALOG_KEY = "warehouse/catalog.db"
REPAIR = "restore it from a backup, or run `fraudline home repair`"


def namespace(home: Home) -> str:
    """The name of the database with a home's tables. In Glue, FRAUDLINE_GLUE_DATABASE overrides it."""
    if isinstance(home, LocalHome):
        return NAMESPACE
    return os.environ.get("FRAUDLINE_GLUE_DATABASE") or NAMESPACE


def open_catalog(home: Home) -> Catalog:
    """The catalog of a home. Raises NotFound if there is none yet, Damaged if it cannot be read, and FraudlineError."""
    if isinstance(home, LocalHome):
        if not home.path(CATALOG_KEY).is_file():
            raise NotFound(f"the home {home.url} has no tables yet; `fraudline run` creates them")
        return _sqlite(home, create=False)
    catalog, name = _glue(home), namespace(home)
    with _glue_errors(name):
        if not catalog.namespace_exists(name):
            raise NotFound(f"the Glue Data Catalog has no database {name} yet; `fraudline deploy` creates it")
    return catalog


def create_catalog(home: Home) -> Catalog:
    """The catalog of a home, created with its namespace if there is none yet. Raises Damaged and FraudlineError."""
    if isinstance(home, LocalHome):
        home.path(CATALOG_KEY).parent.mkdir(parents=True, exist_ok=True)
        catalog = _sqlite(home, create=True)
        catalog.create_namespace_if_not_exists(NAMESPACE)
        return catalog
    catalog, name = _glue(home), namespace(home)
    with _glue_errors(name):
        if not catalog.namespace_exists(name):  # if it exists, the role needs no permission to create one
            catalog.create_namespace(name, {"location": home.url_of("warehouse")})
    return catalog


def _sqlite(home: LocalHome, *, create: bool) -> Catalog:
    from pyiceberg.catalog.sql import SqlCatalog
    from sqlalchemy import URL
    from sqlalchemy.exc import DatabaseError

    from processing.tables.locations import FOLDER, SCHEME, LocalFiles

    path = home.path(CATALOG_KEY)
    properties = {
        "uri": URL.create("sqlite", database=str(path)),  # escapes special characters in the path
        "warehouse": f"{SCHEME}warehouse",
        "py-io-impl": f"{LocalFiles.__module__}.{LocalFiles.__name__}",
        "init_catalog_tables": str(create).lower(),
        FOLDER: str(home.folder),
    }
    try:
        return SqlCatalog(NAMESPACE, **properties)  # type: ignore[arg-type]
    except DatabaseError as error:
        raise Damaged(f"the catalog of the tables, {path}, cannot be read: {error.orig}; {REPAIR}") from error


def _glue(home: Home) -> Catalog:
    from pyiceberg.catalog.glue import GlueCatalog

    properties = {
        "warehouse": home.url_of("warehouse"),
        "py-io-impl": "pyiceberg.io.pyarrow.PyArrowFileIO",
        "glue.endpoint": endpoint("glue"),
        "glue.region": region(),
        "s3.endpoint": endpoint("s3"),
        "s3.region": region(),
        "s3.connect-timeout": str(CONNECT_SECONDS),
        "s3.request-timeout": str(READ_SECONDS),
    }
    with _glue_errors(namespace(home)):
        return GlueCatalog(NAMESPACE, **{key: value for key, value in properties.items() if value is not None})


@contextmanager
def catalog_errors(home: Home) -> Iterator[None]:
    """Raise a FraudlineError if the catalog of a home refuses anything in the `with` block."""
    if not isinstance(home, LocalHome):
        with _glue_errors(namespace(home)):
            yield
        return
    from sqlalchemy.exc import DatabaseError

    try:
        yield
    except DatabaseError as error:
        path = home.path(CATALOG_KEY)
        raise FraudlineError(f"the catalog of the tables, {path}, cannot be used: {error.orig}; run again") from error


@contextmanager
def _glue_errors(name: str) -> Iterator[None]:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except (BotoCoreError, ClientError) as error:
        check = "that the role may use this database and its tables (set FRAUDLINE_GLUE_DATABASE to use another one)"
        raise FraudlineError(refusal(error, "glue:GetDatabase", f"the database {name}", check)) from error
