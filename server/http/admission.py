"""How many requests are answered at once, and how many in a minute, of all keys and of each."""

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager

from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.errors import InvalidRequest, RateLimited, Unavailable
from server.http.error_handlers import error_response
from server.http.identity import state_of
from server.http.keys import Key
from server.http.rates import NotAdmitted, Rates
from server.http.stats import STATS, RequestStats

# The paths whose requests run the agent.
RUN_PATHS = re.compile(
    r"/v1/(chat/completions|responses(/compact)?|sessions/[^/]+/approve)|/agent/(invoke|stream(_log)?|c/N4XyA/stream_log)"
)
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
    async def for_one(self, receive: Receive) -> AsyncIterator[None]:
        """Wait for room, if few enough others do. `receive` tells if the client leaves meanwhile.

        Raises:
            NotAdmitted: there is none.
            ClientDisconnect: the client has left.
        """
        if self._most.locked():
            await self._wait(receive)
        else:
            await self._most.acquire()  # at once
        try:
            yield
        finally:
            self._most.release()

    async def _wait(self, receive: Receive) -> None:
        if self.waiting >= self._queued:
            raise NotAdmitted(_overloaded())
        self.waiting += 1
        room, leaving = asyncio.create_task(self._most.acquire()), asyncio.ensure_future(receive())
        try:
            await asyncio.wait({room, leaving}, timeout=QUEUE_WAIT, return_when=asyncio.FIRST_COMPLETED)
            if leaving.done():
                raise ClientDisconnect
            if not room.done():
                raise NotAdmitted(_overloaded())
        except BaseException:
            if room.done() and not room.cancelled():
                self._most.release()
            raise
        finally:
            room.cancel()
            leaving.cancel()
            self.waiting -= 1


class Admission:
    """Pure ASGI middleware that lets requests that run the agent in, has them wait, or refuses them."""

    def __init__(self, app: ASGIApp, room: Room) -> None:
        self._app, self._room = app, room
        self._rates = Rates()
        self._leaving: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on when there is room for it."""
        if scope["type"] != "http" or scope["method"] != "POST" or not RUN_PATHS.fullmatch(scope["path"]):
            await self._app(scope, receive, send)
            return
        state = state_of(scope)
        key = state.key
        try:
            body = await whole_body(receive)
            async with AsyncExitStack() as place:
                place.enter_context(self._room.one_more_of(key))
                await place.enter_async_context(self._room.for_one(receive))
                headers = await self._rates.admit(key) if key else {}
                place.push_async_callback(self._count, key)
                await self._app(scope, again(body, receive), _with_headers(send, headers))
                if state.goes_on:
                    self._keep_until(state.goes_on, place.pop_all())
        except NotAdmitted as refused:
            await error_response(refused.error)(scope, receive, send)
        except InvalidRequest as refused:  # the body is larger than what is read
            await error_response(refused)(scope, receive, send)

    async def _count(self, key: Key | None) -> None:
        stats = STATS.get() or RequestStats()
        stats.count_the_rest()
        if key:
            await self._rates.count_tokens(key, stats)

    def _keep_until(self, end: asyncio.Task[None], place: AsyncExitStack) -> None:
        """Keep the place of a request that goes on after its answer."""

        async def leave() -> None:
            await asyncio.wait({end})
            await place.aclose()

        leaving = asyncio.create_task(leave())
        self._leaving.add(leaving)
        leaving.add_done_callback(self._leaving.discard)


async def whole_body(receive: Receive) -> list[Message]:
    """Return the messages of a request's body once it is whole: one that never comes must not take another's place.

    Raises:
        ClientDisconnect: the client has left before.
    """
    messages: list[Message] = []
    while not messages or messages[-1].get("more_body", False):
        messages.append(await receive())
        if messages[-1]["type"] == "http.disconnect":
            raise ClientDisconnect
    return messages


def again(messages: list[Message], receive: Receive) -> Receive:
    """Return a function that gives these messages, and then what comes."""
    left = iter(messages)

    async def receive_again() -> Message:
        message = next(left, None)
        return await receive() if message is None else message

    return receive_again


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
