"""The connections to a model endpoint: to nobody else, and no response without a bound."""

from collections.abc import AsyncIterator
from typing import NamedTuple

import httpx2
from openai import DefaultAioHttpClient

from graph.model.bounds import Bounds, too_large
from graph.model.failures import Failure, ModelFailure
from tools.addresses import NO_PROXY_ON_LOOPBACK
from tools.packing import UNPACKED, packing
from tools.trace import trace_headers

UNLIMITED = 0  # connections, as aiohttp counts them
MAX_REDIRECTS = 3
MAX_ERROR = 2**16  # bytes of an error's body that are read


def connections(bounds: Bounds) -> DefaultAioHttpClient:
    """Return a pool of connections of its own."""

    async def within_bounds(response: httpx2.Response) -> None:
        _check_redirect(response)
        if packed := packing(response.headers):
            raise ModelFailure(Failure("failed", words=f"It packed its answer ({packed!r}), unasked."))
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        if response.is_error:
            response.stream = _Beginning(response.stream, MAX_ERROR)
        elif "event-stream" not in response.headers.get("content-type", ""):  # of a stream, its reader has bounds
            response.stream = _Bounded(response.stream, bounds.body)

    return DefaultAioHttpClient(
        headers={"Accept-Encoding": UNPACKED},
        limits=httpx2.Limits(max_connections=UNLIMITED),
        follow_redirects=True,
        max_redirects=MAX_REDIRECTS,
        mounts=NO_PROXY_ON_LOOPBACK,
        event_hooks={"request": [_without_credentials, _part_of_the_trace], "response": [within_bounds]},
    )


async def _part_of_the_trace(request: httpx2.Request) -> None:
    """Tell the endpoint which request it works for."""
    for name, value in trace_headers().items():
        request.headers.setdefault(name, value)  # a call of the model has the one of its own span


async def _without_credentials(request: httpx2.Request) -> None:
    """Leave out of a URL the user and password that a header has by now: aiohttp refuses to send both."""
    if request.url.userinfo:
        request.url = request.url.copy_with(userinfo=b"")


class _Origin(NamedTuple):
    scheme: str
    host: str
    port: int | None

    @classmethod
    def of(cls, url: httpx2.URL) -> "_Origin":
        return cls(url.scheme, url.host, url.port)


def _check_redirect(response: httpx2.Response) -> None:
    """Follow no redirect to somebody else, who would get the prompt and the key.

    Raises:
        ModelFailure: it leads to another origin.
    """
    if not response.has_redirect_location:
        return
    url = response.request.url
    target = url.join(response.headers["location"])
    if _Origin.of(target) != _Origin.of(url):
        asked = str(target.copy_with(userinfo=b"", query=None, fragment=None))[:200]
        detail = f"It redirects to {asked!r}, which is another server, or another way to it: nothing is sent there."
        raise ModelFailure(Failure("wrong address", status=response.status_code, detail=detail))


class _Beginning(httpx2.AsyncByteStream):
    """The first so many bytes of a stream."""

    def __init__(self, stream: httpx2.AsyncByteStream, most: int) -> None:
        self._stream, self._most = stream, most

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left = self._most
        async for piece in self._stream:
            yield piece[:left]
            left -= len(piece)
            if left <= 0:
                self._at_bound()
                return

    async def aclose(self) -> None:
        await self._stream.aclose()

    def _at_bound(self) -> None:
        """Leave it at that."""


class _Bounded(_Beginning):
    """A stream that fails behind so many bytes."""

    def _at_bound(self) -> None:
        raise too_large("an answer", self._most)
