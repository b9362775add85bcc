"""Servers that score nothing: the least that a scoring API could cost, to compare ours with.

`FLOOR=bare` echoes the body, with no framework on top of the server; `FLOOR=fastapi` is a plain FastAPI route with the
request and the response of the home in FRAUDLINE_HOME. Only `fraudline benchmark serving` uses them.

    FLOOR=bare PORT=8080 python -m serving.benchmark.floor
"""

import os
from typing import Any

import uvicorn
from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

from processing.contracts.reader import of_home
from processing.storage.open import open_home
from serving.api.responses import ScoreResponse
from serving.api.transaction import transaction_model
from serving.settings import read_settings


async def bare(scope: Scope, receive: Receive, send: Send) -> None:
    """Echo the body."""
    assert scope["type"] == "http"
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def plain() -> FastAPI:
    """FastAPI as in its tutorial: it validates the body and responds with an instance of the response's model."""
    app = FastAPI()
    model = transaction_model(of_home(open_home(read_settings().home)))

    async def score(transaction: model) -> Any:  # type: ignore[valid-type]
        return ScoreResponse(
            transaction_id=transaction.transaction_id,  # type: ignore[attr-defined]
            decision="legit",
            score=0.25,
            threshold=0.5,
            model_version="none",
            repeated=False,
            behaviour="known",
            reasons=[],
        )

    app.post("/v1/score", response_model=ScoreResponse)(score)
    return app


def main() -> None:
    """Serve what FLOOR names."""
    app: Any = bare if os.environ["FLOOR"] == "bare" else plain()
    options: dict[str, Any] = {"loop": "uvloop", "http": "httptools", "access_log": False, "log_level": "warning"}
    uvicorn.run(app, host="127.0.0.1", port=int(os.environ["PORT"]), lifespan="off", **options)


if __name__ == "__main__":
    main()
