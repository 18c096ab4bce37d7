"""How many requests are answered at once, and how many in a minute, of all keys and of each."""

import asyncio
import math
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

from limits import RateLimitItem, RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import FixedWindowRateLimiter, MovingWindowRateLimiter
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.errors import ApiError, RateLimited, Unavailable
from server.http.error_handlers import error_response
from server.http.identity import state_of
from server.http.keys import Key
from server.http.stats import STATS, RequestStats

# The paths whose requests run the agent.
RUN_PATHS = ("/v1/chat/completions", "/agent/invoke", "/agent/stream", "/agent/stream_log", "/agent/c/N4XyA/stream_log")
QUEUE_WAIT = 30.0


class Room:
    """The requests that are answered, and those that wait.

    Args:
        most: how many are answered at once.
        queued: how many may wait for that.
    """

    def __init__(self, most: int, queued: int) -> None:
        self._most, self._queued = asyncio.Semaphore(most), queued
        self.waiting = 0
        self._of: Counter[str] = Counter()

    @contextmanager
    def one_more_of(self, key: Key | None) -> Iterator[None]:
        """Count a request of a key.

        Raises:
            NotAdmitted: it has as many as it may have.
        """
        holder = key.principal if key else ""
        if key and key.runs_at_once and self._of[holder] >= key.runs_at_once:
            message = f"Rate limit reached for {key.name}: {key.runs_at_once} at once. Try again when one is done."
            raise NotAdmitted(RateLimited(message, "requests", retry_after=1))
        self._of[holder] += 1
        try:
            yield
        finally:
            self._of[holder] -= 1
            if not self._of[holder]:
                del self._of[holder]

    @asynccontextmanager
    async def for_one(self) -> AsyncIterator[None]:
        """Wait for room, if few enough others do.

        Raises:
            NotAdmitted: there is none.
        """
        if self._most.locked():
            await self._wait()
        else:
            await self._most.acquire()  # at once
        try:
            yield
        finally:
            self._most.release()

    async def _wait(self) -> None:
        if self.waiting >= self._queued:
            raise NotAdmitted(_overloaded())
        self.waiting += 1
        try:
            async with asyncio.timeout(QUEUE_WAIT):
                await self._most.acquire()
        except TimeoutError:
            raise NotAdmitted(_overloaded()) from None
        finally:
            self.waiting -= 1


class Admission:
    """Pure ASGI middleware that lets requests that run the agent in, has them wait, or refuses them."""

    def __init__(self, app: ASGIApp, room: Room) -> None:
        self._app, self._room = app, room
        self._rates = Rates()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on when there is room for it."""
        if scope["type"] != "http" or scope["method"] != "POST" or scope["path"] not in RUN_PATHS:
            await self._app(scope, receive, send)
            return
        key = state_of(scope).key
        try:
            headers = await self._rates.admit(key) if key else {}
            with self._room.one_more_of(key):
                async with self._room.for_one():
                    await self._answer(scope, receive, _with_headers(send, headers), key)
        except NotAdmitted as refused:
            await error_response(refused.error)(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, key: Key | None) -> None:
        try:
            await self._app(scope, receive, send)
        finally:
            if key:
                await self._rates.count_tokens(key, STATS.get() or RequestStats())


class NotAdmitted(Exception):
    """A request that is not let in, and what its client is told."""

    def __init__(self, error: ApiError) -> None:
        super().__init__(error.message)
        self.error = error


def _overloaded() -> Unavailable:
    return Unavailable(
        "The engine is currently overloaded, please try again later.",
        code="service_unavailable",
        headers={"Retry-After": "1"},
    )


def _with_headers(send: Send, headers: Mapping[str, str]) -> Send:
    if not headers:
        return send

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(headers)
        await send(message)

    return send_with_headers


@dataclass(frozen=True)
class Budget:
    """What is left of a limit: how many, and the seconds until it is whole again."""

    kind: str
    most: int
    left: int
    seconds: float

    def headers(self) -> dict[str, str]:
        """Return it as OpenAI's headers."""
        return {
            f"x-ratelimit-limit-{self.kind}": str(self.most),
            f"x-ratelimit-remaining-{self.kind}": str(self.left),
            f"x-ratelimit-reset-{self.kind}": duration(self.seconds),
        }


class Rates:
    """The requests and tokens of each key in the last minute, in this process's memory."""

    def __init__(self) -> None:
        storage = MemoryStorage()
        self._requests, self._tokens = MovingWindowRateLimiter(storage), FixedWindowRateLimiter(storage)

    async def admit(self, key: Key) -> dict[str, str]:
        """Count a request, and return the headers that say what is left.

        Raises:
            NotAdmitted: nothing is left.
        """
        budgets = []
        if key.tokens_per_minute:
            limit = RateLimitItemPerMinute(key.tokens_per_minute)
            budgets.append(await self._budget(self._tokens, limit, "tokens", key))
        has_tokens = all(budget.left for budget in budgets)
        if key.requests_per_minute:
            limit = RateLimitItemPerMinute(key.requests_per_minute)
            is_counted = has_tokens and await self._requests.hit(limit, "requests", key.principal)
            budgets.append(await self._budget(self._requests, limit, "requests", key))
            if has_tokens and not is_counted:
                raise NotAdmitted(_used_up(key, budgets[-1], budgets))
        if not has_tokens:
            raise NotAdmitted(_used_up(key, budgets[0], budgets))
        return {name: value for budget in budgets for name, value in budget.headers().items()}

    async def count_tokens(self, key: Key, stats: RequestStats) -> None:
        """Count the tokens that a request has used; the last request of a minute may use more than is left."""
        used = stats.input_tokens + stats.output_tokens
        if key.tokens_per_minute and used:
            await self._tokens.hit(RateLimitItemPerMinute(key.tokens_per_minute), "tokens", key.principal, cost=used)

    async def _budget(
        self, limiter: MovingWindowRateLimiter | FixedWindowRateLimiter, limit: RateLimitItem, kind: str, key: Key
    ) -> Budget:
        reset_at, left = await limiter.get_window_stats(limit, kind, key.principal)
        return Budget(kind, limit.amount, max(left, 0), max(reset_at - time.time(), 0))


def _used_up(key: Key, budget: Budget, budgets: list[Budget]) -> RateLimited:
    wait = max(math.ceil(budget.seconds), 1)
    message = (
        f"Rate limit reached for {key.name} on {budget.kind} per min: Limit {budget.most}. Please try again in {wait}s."
    )
    error = RateLimited(message, budget.kind, retry_after=wait)
    error.headers |= {name: value for one in budgets for name, value in one.headers().items()}
    return error


def duration(seconds: float) -> str:
    """Return seconds as OpenAI's headers do, in Go's form: `1s`, `6m0s`."""
    minutes, rest = divmod(math.ceil(seconds), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
