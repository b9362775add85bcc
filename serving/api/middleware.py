"""What all requests and responses share: a request id, security headers, metrics, and HEAD."""

import re
import time
import uuid

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.api.problems import unexpected_error_response
from serving.decision.serving_metrics import ServingMetrics

REQUEST_ID = "X-Request-ID"
ACCEPTED_ID = re.compile(r"[\w.:/=+-]{1,128}", re.ASCII)
DISCONNECTED = 499  # in the metrics only: the connection was closed before the end of the body
SECURITY_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
]
NO_STORE = (b"cache-control", b"no-store")  # no cache may keep a decision
POLICY = b"content-security-policy"
DATA_POLICY = (POLICY, b"default-src 'none'; frame-ancestors 'none'")  # for responses that are not pages
PAGE_POLICY = (
    POLICY,
    b"default-src 'self'; img-src data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
)


class RequestMiddleware:
    """ASGI middleware, the outermost.

    A caller's request id that could garble the log is replaced. Unexpected errors are logged and answered here, so
    that both the log line and the response carry the id. A response may set its own content security policy, and its
    own cache control. HEAD gets the response of GET without the body, on every route.
    """

    def __init__(self, app: ASGIApp, metrics: ServingMetrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if scope["method"] == "HEAD":
            scope, send = {**scope, "method": "GET"}, _without_body(send)
        sent_id = Headers(scope=scope).get(REQUEST_ID, "")
        request_id = sent_id if ACCEPTED_ID.fullmatch(sent_id) else uuid.uuid4().hex
        began = time.perf_counter()
        status = 0  # until the response has started

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message.get("headers", ()),
                    (b"x-request-id", request_id.encode()),
                    *SECURITY_HEADERS,
                ]
                headers = MutableHeaders(scope=message)
                if NO_STORE[0].decode() not in headers:
                    message["headers"].append(NO_STORE)
                if POLICY.decode() not in headers:
                    page = headers.get("content-type", "").startswith("text/html")
                    message["headers"].append(PAGE_POLICY if page else DATA_POLICY)
            await send(message)

        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        try:
            await self.app(scope, receive, send_with_headers)
        except ClientDisconnect:
            status = status or DISCONNECTED
        except Exception:
            structlog.get_logger().exception("request_failed", path=scope["path"])
            if status:
                raise
            await unexpected_error_response()(scope, receive, send_with_headers)
        finally:
            route = getattr(scope.get("route"), "path", "other")  # not the path itself: callers choose that freely
            self.metrics.count_response(route, status, time.perf_counter() - began)


def _without_body(send: Send) -> Send:
    async def send_headers(message: Message) -> None:
        if message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await send(message)

    return send_headers
