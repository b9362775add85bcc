"""The model as a BentoML service."""

import os

import bentoml
import joblib
import numpy as np


@bentoml.service(workers=1)
class Fraud:
    def __init__(self) -> None:
        self.model = joblib.load(os.environ["MODEL"])

    @bentoml.api
    def invocations(self, inputs: list[list[float]]) -> list[float]:
        return self.model.predict_proba(np.array(inputs, dtype=np.float64))[:, 1].tolist()
