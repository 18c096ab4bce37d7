"""The chat model behind any endpoint that speaks OpenAI's wire format."""

import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import replace
from functools import cached_property
from inspect import signature
from typing import Any

import httpx2
from langchain_core.callbacks import AsyncCallbackManagerForLLMRun
from langchain_core.messages import AIMessage, BaseMessage, ChatMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool
from langchain_core.utils.utils import LC_ID_PREFIX
from langchain_openai.chat_models.base import ChatOpenAI
from langgraph.constants import TAG_NOSTREAM
from pydantic import PrivateAttr

from graph.model.answer import REFUSAL
from graph.model.bounds import Bounds
from graph.model.connections import connections
from graph.model.descriptions import told
from graph.model.endpoint import Endpoint, alternatives, is_among
from graph.model.failures import Failure, Meaning, ModelFailure
from graph.model.images import has_tool_images, with_tool_images
from graph.model.listener import heard_by, listener_of_run
from graph.model.response import CONNECT_TIMEOUT, ModelResponse, Patience, chunk_of
from graph.model.settings import ModelSettings
from graph.model.tokens import room

log = logging.getLogger(__name__)

OPENAI_HOST = "api.openai.com"
# What langchain-openai sends of an assistant's `additional_kwargs`.
SENT_BESIDE = {"tool_calls", "function_call", "audio", "name"}

# Things we send unasked that a model may refuse: the request is repeated without them, and later ones leave them out.
LACKS: Mapping[Meaning, str] = {
    "no tools": "The model %r takes no tools; going on without them. USE_MCP_TOOLS=false turns them off.",
    "no images": "The model %r takes no images; those in the results of tools are left out.",
    "no temperature": "The model %r takes no temperature; TEMPERATURE is left out.",
    "no stream options": "The endpoint of the model %r takes no stream_options; token counts are estimated.",
}


@asynccontextmanager
async def open_model(settings: ModelSettings) -> "AsyncIterator[ChatModel]":
    """Open the model that the settings name, with a connection pool of its own."""
    bounds = Bounds(
        line=settings.max_line_bytes, text=settings.max_answer_length, arguments=settings.max_arguments_length
    )
    async with connections(bounds) as client:
        model = ChatModel(
            model=settings.ollama_model,
            base_url=settings.ollama_base_url,
            api_key=settings.ollama_api_key,
            temperature=settings.temperature,
            timeout=httpx2.Timeout(settings.first_token_timeout, connect=CONNECT_TIMEOUT),
            max_retries=1,
            stream_usage=True,
            use_responses_api=False,
            http_async_client=client,
        )
        model._bounds = bounds
        model._patience = Patience(settings.first_token_timeout, settings.token_timeout)
        yield model


def _sent_as_it_is(message: BaseMessage) -> BaseMessage:
    """Return an assistant's text in a form in which langchain-openai does not look at each character for audio."""
    if not isinstance(message, AIMessage) or not isinstance(message.content, str):
        return message
    if message.tool_calls or message.invalid_tool_calls or not SENT_BESIDE.isdisjoint(message.additional_kwargs):
        return message
    return ChatMessage(content=message.content, role="assistant", name=message.name)


class ChatModel(ChatOpenAI):
    """langchain-openai's model, for endpoints that are only like OpenAI.

    langchain-openai makes the request, and the openai package sends it; the response is read by `AnswerReader`.
    """

    _lacks: dict[str, set[Meaning]] = PrivateAttr(default_factory=lambda: defaultdict[str, set[Meaning]](set))
    """By model, what it is known to refuse."""
    _bounds: Bounds = PrivateAttr(default=Bounds())
    _patience: Patience = PrivateAttr(default=Patience())
    _has_answered: set[str] = PrivateAttr(default_factory=set)

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

        Raises:
            ModelFailure: the endpoint failed, or refused the request.
        """
        with suppress(ModelFailure):  # the request itself will fail the same way
            await self.endpoint.locate()
        name = str(parameters.get("model", self.model_name))
        needed: set[Meaning] = {"no tools"} if tool_choice else set()
        lacks = set(self._lacks[name])  # a copy: other requests may learn the same meanwhile
        while True:
            offered = [] if "no tools" in lacks - needed else tools
            shown = with_tool_images(messages, shown="no images" not in lacks)
            try:
                answer = await self._answered(shown, offered, tool_choice, parameters, lacks, streamed)
            except ModelFailure as error:
                lack = error.failure.meaning
                sent = {"no tools": bool(offered), "no images": has_tool_images(messages)}.get(lack, lack in LACKS)
                if not sent or lack in lacks | needed:
                    raise ModelFailure(await self._explained(error.failure, name, shown, offered)) from error
                if lack not in self._lacks[name]:
                    log.warning(LACKS[lack], name)
                lacks.add(lack)
            else:
                self._lacks[name] |= lacks
                self._has_answered.add(name)
                return answer

    @cached_property
    def endpoint(self) -> Endpoint:
        """The endpoint that serves the model."""
        return Endpoint(self.root_async_client, str(self.openai_api_base))

    async def check(self) -> None:
        """Check that the endpoint can be reached, and that its list of models, if it has one, has the configured model.

        Raises:
            ModelFailure: the endpoint cannot be reached, or lacks the model.
        """
        names = await self.endpoint.names()
        if names and self.model_name not in self._has_answered and not is_among(self.model_name, names):
            raise ModelFailure(Failure("no model", detail=alternatives(self.model_name, names)))

    async def _answered(
        self,
        messages: Sequence[BaseMessage],
        tools: Sequence[BaseTool | dict[str, Any]],
        tool_choice: str | dict[str, Any] | None,
        parameters: Mapping[str, Any],
        lacks: set[Meaning],
        streamed: bool,
    ) -> AIMessage:
        plain = self.model_copy(update={"temperature": None}) if "no temperature" in lacks else self
        if not tools:  # endpoints refuse the parameter without tools
            parameters = {name: value for name, value in parameters.items() if name != "parallel_tool_calls"}
        config: RunnableConfig = {} if streamed else {"tags": [TAG_NOSTREAM]}
        options: dict[str, Any] = {"extra_body": self.in_its_names(parameters)}
        options["stream_usage"] = "no stream options" not in lacks
        if tools:  # as `bind_tools` describes them, without the runnable that it puts around the model
            options |= plain.bind_tools(told(tools), tool_choice=tool_choice).kwargs  # type: ignore[attr-defined]
        with heard_by(listener_of_run.get() if streamed else None):
            answer = await plain.ainvoke(list(messages), config, **options)
        refusal = answer.additional_kwargs.get(REFUSAL)
        kept: dict[str, Any] = {"additional_kwargs": {REFUSAL: refusal} if refusal else {}}
        return answer.model_copy(update=kept if tools else {**kept, "tool_calls": [], "invalid_tool_calls": []})

    def in_its_names(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Return the parameters as this endpoint calls them: only OpenAI itself wants `max_completion_tokens`."""
        if self.root_async_client.base_url.host == OPENAI_HOST or "max_completion_tokens" not in parameters:
            return dict(parameters)
        rest = {name: value for name, value in parameters.items() if name != "max_completion_tokens"}
        return {**rest, "max_tokens": parameters["max_completion_tokens"]}

    async def _explained(
        self, failure: Failure, name: str, messages: Sequence[BaseMessage], tools: Sequence[BaseTool | dict[str, Any]]
    ) -> Failure:
        """Return the failure with what the user needs to know to fix it."""
        match failure.meaning:
            case "context too long":
                return replace(failure, detail=room(messages, tools))
            case "no model":
                with suppress(ModelFailure):
                    names = await self.endpoint.names()
                    return failure if is_among(name, names) else replace(failure, detail=alternatives(name, names))
        return failure

    def _response(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None,
        stream_usage: bool,
        kwargs: Mapping[str, Any],
        heard: Collection[str] = (),
    ) -> ModelResponse:
        options = {"stream_options": {"include_usage": True}} if stream_usage else {}
        payload = self._get_request_payload(
            [_sent_as_it_is(message) for message in messages], stop=stop, **kwargs, **options, stream=True
        )
        extra = payload.pop("extra_body", {})
        return ModelResponse({**payload, **extra}, messages, self._bounds, self._patience, heard)

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        *,
        stream_usage: bool = True,
        **kwargs: Any,
    ) -> ChatResult:
        """Answer whole: the model's face to a run of this server, whose listener hears the answer as it comes."""
        if isinstance(kwargs.get("response_format"), type):  # `with_structured_output`, which the openai package reads
            return await super()._agenerate(messages, stop, run_manager, **kwargs)
        listener = listener_of_run.get()
        heard = listener.hears_calls_of if listener else ()
        response = self._response(messages, stop, stream_usage, kwargs, heard)
        message_id = f"{LC_ID_PREFIX}-{run_manager.run_id}" if run_manager else None
        async with aclosing(response.said(self.root_async_client)) as pieces:
            async for said in pieces:
                if listener:
                    await listener.hear(message_id, said)
        return ChatResult(generations=[await response.generation(message_id)])

    # LangChain inspects it with each call, which takes 1 % of a turn where it is made anew.
    _agenerate.__signature__ = signature(_agenerate)  # type: ignore[attr-defined]

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        *,
        stream_usage: bool | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        """Answer in chunks: the model's face to LangChain, in Studio, notebooks and graphs that people bring."""
        if isinstance(kwargs.get("response_format"), type):
            async for chunk in super()._astream(messages, stop, run_manager, stream_usage=stream_usage, **kwargs):
                yield chunk
            return
        response = self._response(messages, stop, stream_usage is not False, kwargs)
        async with aclosing(response.said(self.root_async_client)) as pieces:
            async for said in pieces:
                yield chunk_of(said)
        yield await response.last_chunk()
