"""One response of a model endpoint, requested and read."""

import json
from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from contextlib import closing, suppress
from typing import Any, NamedTuple

import aiohttp
import httpx2
import openai
import orjson
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk

from graph.model.answer import REASONING, REFUSAL, AnswerReader, Said
from graph.model.bounds import Bounds
from graph.model.endpoint import endpoint_failures
from graph.model.failures import Failure, ModelFailure
from graph.model.read_timeout import ReadTimeout
from graph.model.telemetry import Inference
from graph.model.tokens import estimated_usage

PATH = "/chat/completions"
JSON = {"Content-Type": "application/json"}
# What of a request's parameters is for the openai package, and what it calls them.
PACKAGE_OPTIONS = {"extra_headers": "headers", "extra_query": "params", "timeout": "timeout"}
# What the openai package tells an endpoint of this machine. Only OpenAI reads it, and each header takes as long as a
# token.
UNSENT = dict.fromkeys(
    (
        *("X-Stainless-Lang", "X-Stainless-Package-Version", "X-Stainless-OS", "X-Stainless-Arch"),
        *("X-Stainless-Runtime", "X-Stainless-Runtime-Version", "X-Stainless-Async"),
        *("X-Stainless-Retry-Count", "X-Stainless-Read-Timeout"),
    ),
    openai.Omit(),
)
CONNECT_TIMEOUT = 5.0
TIMEOUT = httpx2.Timeout(None, connect=CONNECT_TIMEOUT)  # what follows is for `ReadTimeout`
# Seconds in which a response that is done should end. Its connection can be used again then, without another handshake.
LINGER = 0.05


class Patience(NamedTuple):
    """Seconds for which an endpoint may be silent: until it says something, and after that."""

    first: float = 120.0
    next: float = 120.0


class ModelResponse:
    """What the endpoint answers to a request.

    The openai package sends the request, with its retries, time-outs and errors, and hands out the response unread.

    Args:
        parameters: of the request, in OpenAI's names.
        messages: the same request's messages, to estimate its tokens where the endpoint reports none.
        bounds: how much of the answer is read.
        patience: how long it may take.
        heard: the names of the tools whose calls are told while they come.
    """

    def __init__(
        self,
        parameters: Mapping[str, Any],
        messages: Sequence[BaseMessage],
        bounds: Bounds,
        patience: Patience,
        heard: Collection[str] = (),
    ) -> None:
        self._body = {name: value for name, value in parameters.items() if name not in PACKAGE_OPTIONS}
        options = {to: parameters[name] for name, to in PACKAGE_OPTIONS.items() if name in parameters}
        self._options: Any = {
            "timeout": TIMEOUT,
            **options,
            "headers": {**UNSENT, **JSON, **options.get("headers", {})},
        }
        self._messages, self._patience = messages, patience
        names = [tool["function"]["name"] for tool in self._body.get("tools") or ()]
        self._reader = AnswerReader(
            stop=self._body.get("stop") or (),
            names=names,
            heard=heard,
            heard_at_most=1 if self._body.get("parallel_tool_calls") is False else None,
            bounds=bounds,
        )

    async def said(self, client: openai.AsyncOpenAI) -> AsyncGenerator[Said]:
        """Send the request, and yield what each read of the response says.

        Raises:
            ModelFailure: the endpoint failed, refused the request, or broke off.
        """
        inference = Inference(str(self._body["model"]), client.base_url)
        with inference, endpoint_failures(client), closing(ReadTimeout()) as timeout:
            seconds = self._patience.first
            response = await timeout.within(seconds, self._sent(client, inference.headers))
            assert isinstance(response.stream, httpx2.AsyncByteStream)
            reads = aiter(response.stream)  # as it is: a packed answer was refused before
            try:
                while read := await timeout.within(seconds, anext(reads, b"")):
                    inference.chunk()
                    if said := self._reader.feed(read):
                        seconds = self._patience.next
                        yield said
                    if self._reader.is_done:
                        break
                if self._reader.is_told_done:
                    with suppress(TimeoutError):
                        await timeout.within(LINGER, anext(reads, b""))
            except TimeoutError as error:
                raise ModelFailure(Failure("stalled")) from error
            except (httpx2.TransportError, aiohttp.ClientError):
                if self._reader.finish is None:  # otherwise only the usage is missing
                    raise
            finally:
                if isinstance(reads, AsyncGenerator):
                    await reads.aclose()
                await response.aclose()
            said = self._reader.end()
            inference.answered("tool_calls" if self._reader.calls else self._finish(), self._reader.usage)
            if said:
                yield said

    async def _sent(self, client: openai.AsyncOpenAI, about: Mapping[str, str]) -> httpx2.Response:
        """Send the request past the package's method for it, which searches all messages for fields to rename.

        In a thread of 800 messages that takes nine times as long as the rest of the turn, and blocks every other run.
        """
        try:
            content = orjson.dumps(self._body)
        except TypeError:  # half a character, which orjson does not write
            content = json.dumps(self._body).encode()
        streamed: bool = True
        options: Any = {**self._options, "headers": {**about, **self._options["headers"]}}
        response = await client.post(
            PATH,
            cast_to=httpx2.Response,
            content=content,
            options=options,
            stream=streamed,
            stream_cls=openai.AsyncStream[Any],
        )
        assert isinstance(response, httpx2.Response)
        return response

    async def generation(self, message_id: str | None) -> ChatGeneration:
        """Return the whole answer as LangChain's message, once it has been said."""
        beside = _beside("".join(self._reader.thought), "".join(self._reader.refused))
        message = AIMessage(
            "".join(self._reader.said), id=message_id, additional_kwargs=beside, **await self._known_at_the_end()
        )
        return ChatGeneration(message=message, generation_info=self._info())

    async def last_chunk(self) -> ChatGenerationChunk:
        """Return what of the answer is known only at its end, as LangChain's chunk."""
        message = AIMessageChunk(content="", chunk_position="last", **await self._known_at_the_end())
        return ChatGenerationChunk(message=message, generation_info=self._info())

    async def _known_at_the_end(self) -> dict[str, Any]:
        calls, malformed = self._reader.calls.calls()
        return {"tool_calls": calls, "invalid_tool_calls": malformed, "usage_metadata": await self._usage()}

    def _info(self) -> dict[str, Any]:
        return {"finish_reason": self._finish(), "model_name": self._body["model"]}

    def _finish(self) -> str:
        return self._reader.finish or "stop"

    async def _usage(self) -> UsageMetadata:
        return self._reader.usage or await estimated_usage(self._messages, "".join(self._reader.said))


def chunk_of(said: Said) -> ChatGenerationChunk:
    """Return what was said as LangChain's chunk."""
    beside = _beside(said.reasoning, said.refusal)
    return ChatGenerationChunk(message=AIMessageChunk(content=said.text + said.refusal, additional_kwargs=beside))


def _beside(reasoning: str, refusal: str) -> dict[str, Any]:
    """Return what LangChain's messages have beside their text."""
    return {name: text for name, text in ((REASONING, reasoning), (REFUSAL, refusal)) if text}
