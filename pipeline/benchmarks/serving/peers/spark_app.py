"""The previous system: the request handler runs a Spark job on one row, then the model."""

import os
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path

import joblib
import numpy as np
import uvicorn
from fastapi import FastAPI
from pyspark.sql import functions as F
from pyspark.sql.types import DoubleType, StructField, StructType

from processing.job.spark import start_spark


@asynccontextmanager
async def lifespan(app):
    app.state.model = joblib.load(os.environ["MODEL"])
    app.state.spark = start_spark(Path(tempfile.mkdtemp(prefix="fraudline-spark-")))
    yield
    app.state.spark.stop()


app = FastAPI(lifespan=lifespan)


@app.get("/ping")
def ping():
    return "up"


@app.post("/invocations")
def invocations(body: dict[str, list[list[float]]]):
    width = len(body["inputs"][0])
    schema = StructType([StructField(f"x{i}", DoubleType()) for i in range(width)])
    frame = app.state.spark.createDataFrame([tuple(row) for row in body["inputs"]], schema)
    frame = frame.select(*[F.coalesce(F.col(f"x{i}"), F.lit(float("nan"))) for i in range(width)])
    rows = np.array([tuple(row) for row in frame.collect()], dtype=np.float64)
    return {"predictions": app.state.model.predict_proba(rows)[:, 1].tolist()}


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(os.environ["PORT"]), log_level="warning")
