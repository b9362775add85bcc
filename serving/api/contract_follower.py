"""Follow the home's contract: when contract.toml changes, a new app takes over while requests go on.

Everything in an app is made for one contract: the fields of a request, the console's form, the features. So the whole
app is made anew. It opens the same online store, so the two count and decide as two servers of one home do.
"""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, field

import structlog
from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

from processing.contract import Contract
from processing.contracts.reader import of_home
from processing.errors import FraudlineError
from processing.storage.home import Home
from serving.api.context import ApiContext


@dataclass
class _Running:
    """An app that has started, and its requests under way."""

    app: FastAPI
    lifespan: AbstractAsyncContextManager[object]
    requests: int = 0
    idle: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def context(self) -> ApiContext:
        context: ApiContext = self.app.state.context
        return context

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.requests += 1
        self.idle.clear()
        try:
            await self.app(scope, receive, send)
        finally:
            self.requests -= 1
            if not self.requests:
                self.idle.set()

    async def close(self) -> None:
        """Close the app when its requests have ended."""
        if self.requests:
            await self.idle.wait()
        await self.lifespan.__aexit__(None, None, None)


class ContractFollower:
    """An ASGI app that passes requests to an app that `create` made for the home's contract as it was then.

    When the contract changes, a new app takes over as soon as it has started. Requests under way end in the earlier
    one, which is closed after them. While no app can be made for the new contract, or it has no model to serve where
    the earlier one has, the earlier one goes on, and the log says why.
    """

    def __init__(self, home: Home, create: Callable[[], FastAPI], *, every_seconds: float = 1.0) -> None:
        self.home, self.create, self.every_seconds = home, create, every_seconds
        self._first: FastAPI | None = create()  # reports errors at once
        self._running: _Running | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._fault: str | None = None
        self._log = structlog.get_logger()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on; start and stop with the server."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        assert self._running is not None  # a server starts its app before it takes requests
        await self._running.answer(scope, receive, send)

    @property
    def contract(self) -> Contract:
        """The contract that requests are answered under. A server must have started."""
        assert self._running is not None
        return self._running.context.contract

    async def check(self) -> None:
        """Compare the home's contract with the app's once, and let a new app take over if it has changed."""
        assert self._running is not None
        try:
            contract = await asyncio.to_thread(of_home, self.home)
            if contract.text == self.contract.text:
                self._fault = None
                return
            await self._replace(self._running)
        except (FraudlineError, OSError) as error:
            self._note(str(error))

    async def _replace(self, before: _Running) -> None:
        after = await self._start(await asyncio.to_thread(self.create))
        models = [one.context.service.follower for one in (before, after)]
        if models[0].serving is not None and models[1].serving is None:
            self._note(f"no model can serve under it: {models[1].trouble}")
            await after.close()
            return
        changes = after.context.contract.changes(before.context.contract)
        self._running, self._fault = after, None
        self._log.info("contract_followed", changes=changes)
        self._keep(asyncio.create_task(before.close()))

    async def _start(self, app: FastAPI) -> _Running:
        lifespan = app.router.lifespan_context(app)
        await lifespan.__aenter__()
        return _Running(app, lifespan)

    def _note(self, fault: str) -> None:
        """Log once why the app of the earlier contract goes on."""
        if fault != self._fault:
            self._fault = fault
            self._log.error("contract_not_followed", why=f"{fault}; requests are answered under the earlier contract")

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            first, self._first = self._first, None
            self._running = await self._start(await asyncio.to_thread(self.create) if first is None else first)
        except BaseException as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            raise
        await send({"type": "lifespan.startup.complete"})
        following = asyncio.create_task(self._follow())
        await receive()
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following
        await self._running.close()
        await asyncio.gather(*self._tasks)
        await send({"type": "lifespan.shutdown.complete"})

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(self.every_seconds)
            try:
                await self.check()
            except Exception as error:  # noqa: BLE001 - nothing may end the loop
                self._log.error("follow_failed", exc_info=error)

    def _keep(self, task: asyncio.Task[None]) -> None:
        """Keep a task until it is done; asyncio itself holds no reference."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
