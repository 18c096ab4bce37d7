"""The chat model behind any endpoint that speaks OpenAI's wire format."""

import json
import secrets
import string
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any, cast

import httpx2
import openai
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, InvalidToolCall, ToolCall, ToolCallChunk
from langchain_core.messages.ai import add_ai_message_chunks
from langchain_core.outputs import ChatGenerationChunk
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool
from langchain_openai import ChatOpenAI
from langgraph.constants import TAG_NOSTREAM

from graph.settings import AgentSettings
from graph.text import AnswerText, paired_surrogates
from graph.tokens import estimated_usage
from tools.addresses import NO_PROXY_ON_LOOPBACK

CONNECT_TIMEOUT = 5.0
READ_TIMEOUT = 120.0
CHECK_TIMEOUT = 3.0
REASONING = "reasoning_content"
OPENAI_HOST = "api.openai.com"
ALPHANUMERIC = string.ascii_letters + string.digits


class IncompleteAnswer(Exception):
    """The endpoint ended its stream without a finish_reason, so the answer may be cut."""


@asynccontextmanager
async def open_model(settings: AgentSettings) -> "AsyncIterator[ChatModel]":
    """Open the model that the settings name, with a connection pool of its own."""
    async with httpx2.AsyncClient(
        limits=httpx2.Limits(max_connections=None), follow_redirects=True, mounts=NO_PROXY_ON_LOOPBACK
    ) as connections:
        yield ChatModel(
            model=settings.ollama_model,
            base_url=settings.ollama_base_url,
            api_key=settings.ollama_api_key,
            temperature=settings.temperature,
            timeout=httpx2.Timeout(READ_TIMEOUT, connect=CONNECT_TIMEOUT),
            stream_chunk_timeout=READ_TIMEOUT,
            max_retries=1,
            streaming=True,
            stream_usage=True,
            use_responses_api=False,
            http_async_client=connections,
        )


class ChatModel(ChatOpenAI):
    """langchain-openai's model, for endpoints that are only like OpenAI.

    Tool call ids are made unique over all threads, since some endpoints number the calls of each answer anew; usage is
    estimated where the endpoint reports none; and an answer without an end is an error.
    """

    async def answer(
        self,
        messages: Sequence[BaseMessage],
        *,
        tools: Sequence[BaseTool | dict[str, Any]],
        tool_choice: str | dict[str, Any] | None = None,
        parameters: Mapping[str, Any],
        streamed: bool = True,
    ) -> AIMessage:
        """Return one model message whole; if `streamed`, it goes through the run's stream as it comes.

        `parameters` are fields of the request in OpenAI's names; they are sent as they are and override the model's
        own. Without `tools` the message has no tool calls, whatever the endpoint makes of that.
        """
        model = self.bind_tools(tools, tool_choice=tool_choice) if tools else self
        config: RunnableConfig = {} if streamed else {"tags": [TAG_NOSTREAM]}
        if not tools:  # about which nothing may be said then
            parameters = {name: value for name, value in parameters.items() if name != "parallel_tool_calls"}
        stream = model.astream(list(messages), config, extra_body=self.in_its_names(parameters))
        async with aclosing(cast(AsyncGenerator[AIMessageChunk], stream)) as chunks:
            whole = add_ai_message_chunks(*[chunk async for chunk in chunks])
        calls, malformed = load_calls(whole.tool_call_chunks) if tools else ([], [])
        return AIMessage(
            whole.content,
            id=whole.id,
            tool_calls=calls,
            invalid_tool_calls=malformed,
            usage_metadata=whole.usage_metadata,
            response_metadata=whole.response_metadata,
        )

    async def names(self) -> list[str]:
        """Ask the endpoint which models it has; none where it has no such list.

        Raises:
            openai.OpenAIError: it cannot be reached, or takes no request of ours.
        """
        client = self.root_async_client.with_options(timeout=CHECK_TIMEOUT, max_retries=0)
        with suppress(openai.NotFoundError):
            return [model.id async for model in client.models.list()]
        return []

    def in_its_names(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Return the parameters as this endpoint calls them: only OpenAI itself wants `max_completion_tokens`."""
        if self.root_async_client.base_url.host == OPENAI_HOST or "max_completion_tokens" not in parameters:
            return dict(parameters)
        rest = {name: value for name, value in parameters.items() if name != "max_completion_tokens"}
        return {**rest, "max_tokens": parameters["max_completion_tokens"]}

    def _convert_chunk_to_generation_chunk(
        self, chunk: dict[str, Any], default_chunk_class: type, base_generation_info: dict[str, Any] | None
    ) -> ChatGenerationChunk | None:
        """Keep the reasoning, which langchain-openai drops; some endpoints call it `reasoning`."""
        converted = super()._convert_chunk_to_generation_chunk(chunk, default_chunk_class, base_generation_info)
        for choice in chunk.get("choices") or ():
            delta = choice.get("delta") or {}
            reasoning = delta.get("reasoning_content") or delta.get("reasoning")
            if converted and isinstance(reasoning, str):
                converted.message.additional_kwargs[REASONING] = reasoning
        return converted

    def _get_request_payload(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Return the request with its messages where the openai package sends them as they are.

        It would walk through all of them in search of fields to rename, which takes nine times as long as all the rest
        of a turn in a thread of 800 messages, and holds up every other run meanwhile.
        """
        payload = super()._get_request_payload(*args, **kwargs)
        body = {**payload.get("extra_body", {}), "messages": payload["messages"]}
        return {**payload, "messages": [], "extra_body": body}

    async def _astream(self, *args: Any, **kwargs: Any) -> AsyncIterator[ChatGenerationChunk]:
        text, thought = AnswerText(kwargs.get("extra_body", {}).get("stop") or ()), AnswerText()
        calls, finished, reported, said = _CallNumbers(), False, False, ""
        stream = super()._astream(*args, **kwargs)
        async with aclosing(cast(AsyncGenerator[ChatGenerationChunk], stream)) as chunks:
            async for chunk in chunks:
                message = chunk.message
                message.id = None  # the run's is taken then: an endpoint's may come again, and replace what was said
                finished = finished or bool((chunk.generation_info or {}).get("finish_reason"))
                if isinstance(message, AIMessageChunk):
                    reported = reported or message.usage_metadata is not None
                    message.tool_call_chunks = [calls.renumbered(call) for call in message.tool_call_chunks]
                if isinstance(message.content, str):
                    message.content = text.next(message.content)
                if reasoning := message.additional_kwargs.get(REASONING):
                    message.additional_kwargs[REASONING] = thought.next(reasoning)
                said += str(message.text)
                yield chunk
                if text.stopped:
                    break
        if not finished and not text.stopped:
            raise IncompleteAnswer("The model's answer ended in the middle.")
        if rest := text.rest():
            yield ChatGenerationChunk(message=AIMessageChunk(content=rest))
        if not reported:
            usage = await estimated_usage(args[0], said + rest)
            yield ChatGenerationChunk(message=AIMessageChunk(content="", usage_metadata=usage))


def load_calls(fragments: Sequence[ToolCallChunk]) -> tuple[list[ToolCall], list[InvalidToolCall]]:
    """Return the calls of a whole message, and apart from them those whose arguments are no JSON object.

    langchain-core completes JSON that was cut, which would run a tool with arguments that the model never finished.
    """
    calls: list[ToolCall] = []
    malformed: list[InvalidToolCall] = []
    for call in fragments:
        name, text, call_id = call["name"] or "", paired_surrogates(call["args"] or ""), call["id"]
        try:
            arguments = json.loads(text or "{}", parse_constant=_no_number)
            if not isinstance(arguments, dict):
                raise ValueError("not a JSON object")
            # Neither half a surrogate pair nor Infinity, which a large number is read as, can be kept or sent.
            json.dumps(arguments, ensure_ascii=False, allow_nan=False).encode()
            calls.append(ToolCall(name=name, args=storable(arguments), id=call_id, type="tool_call"))
        except ValueError as error:
            malformed.append(
                InvalidToolCall(name=name, args=text, id=call_id, error=str(error), type="invalid_tool_call")
            )
    return calls, malformed


def storable(value: Any) -> Any:
    """Return a JSON value as checkpoints can keep it: a number of more than 64 bits as JavaScript reads it.

    Raises:
        ValueError: JavaScript reads it as Infinity.
    """
    match value:
        case dict():
            return {name: storable(item) for name, item in value.items()}
        case list():
            return [storable(item) for item in value]
        case int() if not -(2**63) <= value < 2**64:
            try:
                return float(value)
            except OverflowError as error:
                raise ValueError("a number is too large") from error
        case _:
            return value


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


class _CallNumbers:
    """The tool calls of one answer: an index and an id for each, however the endpoint counts them.

    A fragment that brings a new id begins a call, even under an index that is taken; Ollama used to send 0 for all.
    """

    def __init__(self) -> None:
        self._begun: list[tuple[object, str | None]] = []

    def renumbered(self, fragment: ToolCallChunk) -> ToolCallChunk:
        """Return the fragment under our index, with our id if it is the first of its call."""
        position = self._position(fragment["index"], fragment["id"])
        if position is not None:
            return {**fragment, "index": position, "id": None, "name": None}
        self._begun.append((fragment["index"], fragment["id"]))
        return {**fragment, "index": len(self._begun) - 1, "id": new_call_id()}

    def _position(self, index: object, call_id: str | None) -> int | None:
        for position in range(len(self._begun) - 1, -1, -1):
            known_index, known_id = self._begun[position]
            if known_index == index:
                return position if call_id in (None, "", known_id) else None
        return None


def new_call_id() -> str:
    """Return an id in OpenAI's form, `call_` and 24 letters or digits."""
    return "call_" + "".join(secrets.choice(ALPHANUMERIC) for _ in range(24))
