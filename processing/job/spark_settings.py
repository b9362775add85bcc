"""The Spark settings that a laptop and Glue share. Imports no Spark: the infrastructure gives them to Glue."""

from processing.tables.parquet import SPARK as CHECKSUMS

SHARED = {
    **CHECKSUMS,
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    "spark.sql.maxConcurrentOutputFileWriters": "64",
    "spark.sql.execution.arrow.maxRecordsPerBatch": "100000",
}
