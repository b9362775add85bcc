"""The least that a scoring API could cost, to measure ours against: servers that score nothing.

`FLOOR=bare` echoes the body, with no framework between it and the server; `FLOOR=fastapi` is a plain FastAPI route
with the request and the reply of the home in FRAUDLINE_HOME. For `fraudline benchmark serving` alone.

    FLOOR=bare PORT=8080 python -m serving.benchmark.floor
"""

import os
from typing import Annotated, Any

import uvicorn
from fastapi import Body, FastAPI
from starlette.types import Receive, Scope, Send

from processing.contracts.reader import of_home
from processing.storage.open import open_home
from serving.api import replies
from serving.api.request import request_model
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
    """FastAPI as its tutorial has it: the body validated, an answer of the reply's model."""
    app = FastAPI()

    async def score(transaction: Any) -> Any:
        return replies.Scored(
            transaction_id=transaction.transaction_id,
            decision="legit",
            score=0.25,
            threshold=0.5,
            model_version="none",
            repeated=False,
            behaviour="known",
            reasons=[],
        )

    score.__annotations__["transaction"] = Annotated[request_model(of_home(open_home(read_settings().home))), Body()]
    app.post("/v1/score", response_model=replies.Scored)(score)
    return app


def main() -> None:
    """Serve the floor that FLOOR names."""
    app: Any = bare if os.environ["FLOOR"] == "bare" else plain()
    options: dict[str, Any] = {"loop": "uvloop", "http": "httptools", "access_log": False, "log_level": "warning"}
    uvicorn.run(app, host="127.0.0.1", port=int(os.environ["PORT"]), lifespan="off", **options)


if __name__ == "__main__":
    main()
