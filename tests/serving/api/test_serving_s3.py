"""The API over a home in S3 with its store in DynamoDB; and serving a folder without boto3."""

import subprocess
import sys
from collections.abc import Callable

import pytest
from serving_home import TestClient, row, serving_home, settings

from processing.contracts import reader as contracts
from serving.app import create_app

CONTRACT = contracts.load("transactions")


@pytest.mark.cloud
def test_a_home_in_s3_is_served(s3_url: Callable[[], str], online_table: str) -> None:
    address = s3_url()
    home = serving_home(address)  # type: ignore[arg-type]
    with TestClient(create_app(settings(address, store_timeout_seconds=20))) as api:  # type: ignore[arg-type]
        assert api.get("/health/ready").status_code == 200
        transaction = row(CONTRACT)
        first = api.post("/v1/score", json=transaction)
        assert first.status_code == 200
        assert api.post("/v1/score", json=transaction).json() == first.json() | {"repeated": True}
        assert api.post("/v1/score", json=transaction | {"amount": 1.0}).status_code == 409
        feedback = {"transaction_id": first.json()["transaction_id"], "is_fraud": True}
        assert api.post("/v1/feedback", json=feedback).status_code == 200
        (decision,) = api.get("/v1/decisions").json()["decisions"]
        assert decision["transaction_id"] == feedback["transaction_id"]
    assert home.url == address


def test_serving_a_folder_needs_no_boto3() -> None:
    code = "import sys, serving.app, processing.storage.home, processing.store.interface; print('boto3' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "False"
