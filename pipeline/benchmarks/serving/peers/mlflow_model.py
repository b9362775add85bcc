"""Saves the model in MLflow's format and serves it with `mlflow models serve`."""

import os
import sys
import tempfile

import joblib
import mlflow.sklearn

if __name__ == "__main__":
    folder = tempfile.mkdtemp(prefix="fraudline-mlflow-")
    path = os.path.join(folder, "model")
    mlflow.sklearn.save_model(
        joblib.load(os.environ["MODEL"]),
        path,
        pyfunc_predict_fn="predict_proba",
        serialization_format="cloudpickle",
        pip_requirements=[],
    )
    serve = ["models", "serve", "-m", path, "--env-manager", "local", "--host", "127.0.0.1", "--workers", "1"]
    command = [sys.executable, "-m", "mlflow", *serve, "--port", os.environ["PORT"]]
    os.environ["PATH"] = os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"]
    os.execv(sys.executable, command)
