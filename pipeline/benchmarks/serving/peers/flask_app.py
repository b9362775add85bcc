"""The model behind Flask, as in tutorials."""

import os

import joblib
import numpy as np
from flask import Flask, jsonify, request

model = joblib.load(os.environ["MODEL"])
app = Flask(__name__)


@app.get("/ping")
def ping():
    return "up"


@app.post("/invocations")
def invocations():
    rows = np.array(request.get_json()["inputs"], dtype=np.float64)
    return jsonify(predictions=model.predict_proba(rows)[:, 1].tolist())
