"""What every request and answer has: an id, in each log line about it and in the answer, and headers of caution."""

import re
import time
import uuid

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.api.problems import unexpected
from serving.decision.metrics import Metrics

HEADER = "X-Request-ID"
ACCEPTED = re.compile(r"[\w.:/=+-]{1,128}", re.ASCII)
ABANDONED = 499  # in the metrics alone: the caller hung up, or was hung up on, before the end of the body
CAUTION = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
]
NOT_KEPT = (b"cache-control", b"no-store")  # decisions are between the caller and us
POLICY = b"content-security-policy"
DATA_POLICY = (POLICY, b"default-src 'none'; frame-ancestors 'none'")  # what is no page loads nothing
PAGE_POLICY = (
    POLICY,
    b"default-src 'self'; img-src data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
)


class Requests:
    """ASGI middleware. A caller's id that could garble a log is replaced. An error that nobody expected is logged
    and answered here, so that log line and answer carry the id too. An answer may bring a policy of its own, and say
    that it may be kept. HEAD is answered as GET is, whatever the route knows of it."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if scope["method"] == "HEAD":  # of any route: what GET answers, without the body
            scope, send = {**scope, "method": "GET"}, _without_body(send)
        given = Headers(scope=scope).get(HEADER, "")
        request_id = given if ACCEPTED.fullmatch(given) else uuid.uuid4().hex
        began = time.perf_counter()
        status = 0  # of the answer, once it has begun

        async def send_on(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id.encode()), *CAUTION]
                headers = MutableHeaders(scope=message)
                if NOT_KEPT[0].decode() not in headers:
                    message["headers"].append(NOT_KEPT)
                if POLICY.decode() not in headers:
                    page = headers.get("content-type", "").startswith("text/html")
                    message["headers"].append(PAGE_POLICY if page else DATA_POLICY)
            await send(message)

        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        try:
            await self.app(scope, receive, send_on)
        except ClientDisconnect:
            status = status or ABANDONED
        except Exception:
            structlog.get_logger().exception("request_failed", path=scope["path"])
            if status:
                raise
            await unexpected()(scope, receive, send_on)
        finally:
            route = getattr(scope.get("route"), "path", "other")  # not what was asked for: that may be anything
            self.metrics.answered(route, status, time.perf_counter() - began)


def _without_body(send: Send) -> Send:
    async def send_on(message: Message) -> None:
        if message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await send(message)

    return send_on
