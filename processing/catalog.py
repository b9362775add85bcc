"""The Iceberg catalog of a home: a SQLite file on a laptop, the Glue Data Catalog for a home in S3."""

import os

from pyiceberg.catalog import Catalog

from processing.aws import CONNECT_SECONDS, READ_SECONDS, endpoint, refusal, region
from processing.errors import FraudlineError
from processing.home import Home, LocalHome

NAMESPACE = "fraudline"


def namespace(home: Home) -> str:
    """The name of the database that a home's tables are in. In Glue FRAUDLINE_GLUE_DATABASE says another one."""
    if isinstance(home, LocalHome):
        return NAMESPACE
    return os.environ.get("FRAUDLINE_GLUE_DATABASE") or NAMESPACE


def open_catalog(home: Home) -> Catalog:
    """The catalog of a home, with its namespace, which is made if there is none yet. Raises FraudlineError."""
    if isinstance(home, LocalHome):
        return _sqlite(home)
    return _glue(home)


def _sqlite(home: LocalHome) -> Catalog:
    from pyiceberg.catalog.sql import SqlCatalog

    warehouse = home.path("warehouse")
    warehouse.mkdir(parents=True, exist_ok=True)
    catalog = SqlCatalog("fraudline", uri=f"sqlite:///{warehouse}/catalog.db", warehouse=warehouse.as_uri())
    catalog.create_namespace_if_not_exists(NAMESPACE)
    return catalog


def _glue(home: Home) -> Catalog:
    from botocore.exceptions import BotoCoreError, ClientError
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
    name = namespace(home)
    try:
        catalog = GlueCatalog("fraudline", **{key: value for key, value in properties.items() if value is not None})
        if not catalog.namespace_exists(name):  # a role that may not make one need not, where it exists
            catalog.create_namespace(name, {"location": home.url_of("warehouse")})
    except (BotoCoreError, ClientError) as error:
        check = "that the role may use this database and its tables (FRAUDLINE_GLUE_DATABASE names another one)"
        raise FraudlineError(refusal(error, "glue:GetDatabase", f"the database {name}", check)) from error
    return catalog
