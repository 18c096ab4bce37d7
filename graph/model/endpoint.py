"""A model endpoint: where it is, which models it has, and what its failures mean."""

import asyncio
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import aiohttp
import httpx
import httpx2
import openai

from graph.model.failures import Failure, ModelFailure, read_failure
from graph.model.settings import NO_KEY
from graph.model.windows import load_windows
from tools.printed import secrets_of_url, without

log = logging.getLogger(__name__)

CHECK_TIMEOUT = 3.0
ASK_AGAIN = 10.0
OLLAMAS = "/api"
# Paths that people copy along with the address, from the API's documentation or from Ollama's own API.
TAILS = ("/chat/completions", "/completions", "/models", "/api/chat", "/api/generate", "/api/tags", OLLAMAS)
API = "/v1"
NEWEST = ":latest"
MAX_LISTED = 20
MAX_WORDS = 500  # characters of what an endpoint says that are told


class Endpoint:
    """An endpoint whose address may be written in several ways; the right one is found by asking.

    Args:
        client: the openai package's client; its base URL becomes the one that is found.
        given: the address as it is configured.
    """

    def __init__(self, client: openai.AsyncOpenAI, given: str) -> None:
        self._client, self._given = client, given
        self.windows: dict[str, int] = {}
        """The context windows that are known, in tokens, by the models' names."""
        self._is_located = False
        self._locating = asyncio.Lock()
        self._hangs: ModelFailure | None = None
        self._asked_at = float("-inf")

    async def names(self) -> list[str]:
        """Ask which models the endpoint has; empty where it has no list of them.

        Raises:
            ModelFailure: it cannot be reached, or refuses the request.
        """
        found = await self.locate()
        return await self._list(str(self._client.base_url)) or [] if found is None else found

    def window(self, name: str) -> int | None:
        """Return the context window of a model, in tokens, or None if it is not known."""
        return next((tokens for known, tokens in self.windows.items() if is_among(name, [known])), None)

    async def locate(self) -> list[str] | None:
        """Find the endpoint at one of its addresses, unless it was found before; return the models listed there.

        Raises:
            ModelFailure: it cannot be reached, or is not ready; the next call tries again.
        """
        async with self._locating:
            if self._is_located:
                return None
            if self._hangs and time.monotonic() - self._asked_at < ASK_AGAIN:
                raise self._hangs  # or all requests would queue here, one after the other
            try:
                return await self._found()
            except ModelFailure as error:
                self._hangs = error if error.failure.meaning == "timed out" else None
                self._asked_at = time.monotonic()
                raise

    async def _found(self) -> list[str] | None:
        refusal = None
        for address in addresses(self._given):
            try:
                names = await self._list(address)
            except ModelFailure as error:
                if error.failure.meaning != "wrong key":
                    raise
                refusal = refusal or address
            else:
                if names is not None:
                    self._use(address)
                    return names
        self._use(refusal or addresses(self._given)[0], has_list=refusal is not None)
        return None

    def _use(self, address: str, *, has_list: bool = True) -> None:
        self._is_located = True
        self._client.base_url = address
        shown = httpx.URL(address).copy_with(userinfo=b"", query=None)
        if address != self._given:
            log.info("OLLAMA_BASE_URL: using %s", shown)
        if not has_list and not shown.path.endswith(API):
            log.warning("OLLAMA_BASE_URL: %s lists no models; the address of such an API mostly ends in /v1.", shown)

    async def _list(self, address: str) -> list[str] | None:
        """Return the models listed at an address; None where there is no list."""
        client = self._client.with_options(base_url=address, timeout=CHECK_TIMEOUT, max_retries=0)
        try:
            with endpoint_failures(client):
                async with asyncio.timeout(CHECK_TIMEOUT):  # aiohttp's own is lost where a chunk is malformed
                    response = await client.get("/models", cast_to=httpx2.Response)
        except ModelFailure as error:
            status = error.failure.status
            if status is None or status >= 500 or error.failure.meaning in ("wrong key", "rate limited"):
                raise
            return None
        body = body_of(response)
        self.windows |= load_windows(body)
        return load_names(body)


@contextmanager
def endpoint_failures(client: openai.AsyncOpenAI) -> Iterator[None]:
    """Raise what the openai package and its transport raise as a `ModelFailure`, without our secrets in its words."""
    try:
        with _understood():
            yield
    except ModelFailure as error:
        secrets = [*secrets_of_url(str(client.base_url)), *({client.api_key} - {NO_KEY})]
        words = without(secrets, error.failure.words)  # before they are cut, which could leave half of one
        # What it was made from has them still, and a traceback would show it.
        raise ModelFailure(replace(error.failure, words=words[:MAX_WORDS])) from None


@contextmanager
def _understood() -> Iterator[None]:
    try:
        yield
    except openai.APIStatusError as error:
        retry_after = error.response.headers.get("retry-after")
        body = body_of(error.response)
        raise ModelFailure(read_failure(error.status_code, body, retry_after=retry_after)) from error
    except openai.APIConnectionError as error:
        if isinstance(error.__cause__, ModelFailure):  # of our own, which the package wraps
            raise ModelFailure(error.__cause__.failure) from error
        late = isinstance(error, openai.APITimeoutError) and is_late(error)
        words = "" if late else str(error.__cause__ or "")
        raise ModelFailure(Failure("timed out" if late else "unreachable", words=words)) from error
    except (httpx2.RequestError, aiohttp.ClientError) as error:
        late = isinstance(error, httpx2.TimeoutException) and is_late(error)
        raise ModelFailure(Failure("stalled") if late else Failure("broke off", words=str(error))) from error
    except TimeoutError as error:
        raise ModelFailure(Failure("timed out")) from error
    except (UnicodeError, RecursionError) as error:
        raise ModelFailure(Failure("failed", words="It sent something that cannot be read.")) from error
    except openai.OpenAIError as error:
        raise ModelFailure(Failure("failed", words=str(error))) from error


def is_late(error: BaseException | None) -> bool:
    """Whether a time-out is one: the openai package's transport also calls connections so that were lost or refused."""
    while error and not isinstance(error, aiohttp.ClientError):
        error = error.__cause__
    return error is None or isinstance(error, TimeoutError)


def body_of(response: httpx2.Response) -> Any:
    """Return a response's JSON, or its text if it is not JSON."""
    try:
        return response.json()
    except (ValueError, RecursionError):
        return response.text


def addresses(given: str) -> list[str]:
    """Return the addresses that a base URL may mean, the most likely first: as it is written, and with `/v1`."""
    url = httpx.URL(given)
    path = url.path.rstrip("/")
    tail = next((tail for tail in TAILS if path.endswith(tail)), "")
    base = path.removesuffix(tail).rstrip("/")
    paths = [path if tail == OLLAMAS else base, *([] if base.endswith(API) else [base + API])]
    return [str(url.copy_with(path=path or "/")).rstrip("/") for path in paths]


def load_names(body: Any) -> list[str] | None:
    """Return the names in a list of models, in OpenAI's form, bare, or in Ollama's; None if it is not a list."""
    match body:
        case {"data": list(models)} | {"models": list(models)} | list(models):
            return list(dict.fromkeys(_names(models)))
    return None


def _names(models: Sequence[Any]) -> Iterator[str]:
    for model in models:
        match model:
            case {"id": str(name)} | {"name": str(name)} | {"model": str(name)} | str(name) if name:
                yield name


def is_among(name: str, names: Sequence[str]) -> bool:
    """Whether one of the names is of this model: Ollama lists `llama3.2` as `llama3.2:latest`."""
    return name.removesuffix(NEWEST) in {known.removesuffix(NEWEST) for known in names}


def alternatives(name: str, names: Sequence[str]) -> str:
    """Return one sentence that says which models there are instead of the missing one."""
    return f"{name!r} is not there{'; it has ' + listed(names) if names else ''}."


def listed(names: Sequence[str]) -> str:
    """Return up to twenty names of models as text."""
    return ", ".join(names[:MAX_LISTED]) + (", …" if len(names) > MAX_LISTED else "")
