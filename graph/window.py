"""Fit a conversation into the model's context window: the oldest turns are shown as a summary, which is made once."""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, SystemMessage
from langchain_core.messages.ai import UsageMetadata, add_usage
from langchain_core.tools import BaseTool

from graph.event_queue import queue_of_run
from graph.model.client import ChatModel
from graph.model.failures import Failure, ModelFailure
from graph.model.tokens import BYTES_PER_TOKEN, MOST_BYTES_PER_TOKEN, most_tokens, room
from graph.model.windows import window_in
from graph.state import TurnContext
from graph.storage.summaries import Summaries
from graph.summary import SUMMARY, summary_of

log = logging.getLogger(__name__)

Ask = Callable[[Sequence[AnyMessage]], Awaitable[AIMessage]]

LEFT_OUT = "The beginning of this conversation is left out, since it is too long."
GAP = "What was said right after that is left out, since it is too long."
# Of the window; the answer gets it where the request does not say how long the answer may be.
ANSWER = 8
# Tokens: a smaller `compact_threshold` counts as this, since a summary has room in an eighth of it.
LEAST_THRESHOLD = 500
# How much of the window is used where the endpoint has refused more: its tokens are shorter than was estimated.
TIGHT = 0.6


@dataclass(frozen=True)
class Prompt:
    """What the model is shown of a conversation."""

    messages: Sequence[AnyMessage]
    usage: UsageMetadata | None = None
    """The tokens that its summary took, if one was made."""


@dataclass(frozen=True)
class Window:
    """The context window of the models.

    Args:
        model: answers, and summarizes.
        tokens: of the window; 0 for what the endpoint tells.
        summaries: those of stored threads.
    """

    model: ChatModel
    tokens: int
    summaries: Summaries

    async def answer(
        self,
        ask: Ask,
        system: SystemMessage,
        messages: Sequence[AnyMessage],
        tools: Sequence[BaseTool | dict[str, Any]],
        context: TurnContext,
        thread: str | None,
    ) -> AIMessage:
        """Ask the model; if the endpoint finds the prompt too long, ask again with less of the conversation.

        Args:
            ask: asks the model with the messages that it is shown.
            system: what comes before all messages.
            messages: the conversation, each call followed by its result.
            tools: what the model is offered.
            context: the turn.
            thread: where the conversation is stored; None if it is not.

        Raises:
            ModelFailure: the endpoint failed, or the conversation does not fit.
            DatabaseUnavailable: the database does not answer.
        """
        prompt = await self.prompt(system, messages, tools, context, thread)
        queue = queue_of_run.get()
        told = len(queue.events) if queue else 0
        try:
            answer = await ask(prompt.messages)
        except ModelFailure as failure:
            has_spoken = queue is not None and len(queue.events) > told
            if has_spoken or context.truncation == "disabled" or not self._learn(failure, context):
                raise
            whole, prompt = prompt, await self.prompt(system, messages, tools, context, thread, share=TIGHT)
            if prompt.messages == whole.messages:
                raise
            answer = await ask(prompt.messages)
        if prompt.usage is None:
            return answer
        return answer.model_copy(update={"usage_metadata": add_usage(prompt.usage, answer.usage_metadata)})

    def size(self, parameters: Mapping[str, Any]) -> int | None:
        """Return the window of the model that is asked, or None if nobody knows it."""
        return self.tokens or self.model.endpoint.window(self._name(parameters))

    def _learn(self, failure: ModelFailure, context: TurnContext) -> bool:
        """Note the window that a refusal tells, and return whether the prompt can be made shorter now."""
        if failure.failure.meaning != "context too long":
            return False
        if told := window_in(failure.failure.words):
            self.model.endpoint.windows[self._name(context.parameters)] = told
        return self.size(context.parameters) is not None

    async def prompt(
        self,
        system: SystemMessage,
        messages: Sequence[AnyMessage],
        tools: Sequence[BaseTool | dict[str, Any]],
        context: TurnContext,
        thread: str | None,
        *,
        share: float = 1,
    ) -> Prompt:
        """Return what the model is shown: all of it, or a summary of the oldest turns and the newest ones whole.

        The arguments are those of `answer`; of the window so large a `share` is used.

        Raises:
            ModelFailure: it does not fit, and the turn wants it whole.
            DatabaseUnavailable: the database does not answer.
        """
        limit = self._limit(context, share)
        if limit is None or (free := limit - most_tokens([system], tools)) >= most_tokens(messages):
            return Prompt([system, *messages])
        if context.truncation == "disabled":
            self._refuse_too_long([system, *messages], tools, context)
            return Prompt([system, *messages])
        known = await self._known(thread) if thread else {}
        before_newest = turns_before(messages, 0)
        covered = next((at for at in range(before_newest, 0, -1) if messages[at - 1].id in known), 0)
        summary = known[str(messages[covered - 1].id)] if covered else ""
        rest = with_summary(summary, messages[covered:]) if covered else messages
        oldest = turns_before(messages[covered:], free // 2)
        if not oldest or most_tokens(rest) <= free:
            return Prompt([system, *rest])
        text, usage = await self._beginning(messages[covered : covered + oldest], summary, context, limit)
        if text and thread:
            await self._keep(thread, str(messages[covered + oldest - 1].id), text)
        shown = with_summary(text, messages[covered + oldest :], summary)
        return Prompt([system, *shown], usage)

    async def _known(self, thread: str) -> Mapping[str, str]:
        """Return the summaries of a thread, those of this run included, by the last messages that they cover."""
        queue = queue_of_run.get()
        return {**await self.summaries.of(thread), **(queue.summaries if queue else {})}

    async def _keep(self, thread: str, message_id: str, summary: str) -> None:
        """Keep a summary: that of a run of this server with its turn, which may fail and leave nothing."""
        if queue := queue_of_run.get():
            queue.summaries[message_id] = summary
        else:
            await self.summaries.keep(thread, message_id, summary)

    async def summary(
        self, messages: Sequence[AnyMessage], instructions: Sequence[str], parameters: Mapping[str, Any]
    ) -> tuple[str, UsageMetadata | None]:
        """Return a summary of a conversation of any length that heeds the instructions, and the tokens that it took.

        Raises:
            ModelFailure: the endpoint failed.
        """
        most = self._most(parameters)
        return await summary_of(self.model, messages, instructions=instructions, parameters=parameters, most=most)

    def _most(self, parameters: Mapping[str, Any]) -> int | None:
        """Return how many tokens a request for a summary may have, so that there is room for the summary."""
        size = self.size(parameters)
        return None if size is None else size * 5 // 8

    async def _beginning(
        self, messages: Sequence[AnyMessage], before: str, context: TurnContext, limit: int
    ) -> tuple[str, UsageMetadata | None]:
        """Return a summary of an eighth of the limit at most; none if the model makes none."""
        parameters = {"model": self._name(context.parameters), "max_completion_tokens": limit // 4}
        try:
            most = self._most(context.parameters)
            text, usage = await summary_of(self.model, messages, before=before, parameters=parameters, most=most)
        except ModelFailure as failure:
            log.warning("A long conversation could not be summarized; its beginning is left out. %s", failure)
            return "", None
        return text.encode()[: limit // ANSWER * MOST_BYTES_PER_TOKEN].decode(errors="ignore"), usage

    def _limit(self, context: TurnContext, share: float) -> int | None:
        """Return how many tokens a prompt may have before it is made shorter; None for any number."""
        window = self.size(context.parameters)
        if window is None:
            return context.compact_threshold and max(context.compact_threshold, LEAST_THRESHOLD)
        asked = context.parameters.get("max_completion_tokens")
        answer = min(asked, window // 2) if isinstance(asked, int) and asked > 0 else window // ANSWER
        limit = int((window - answer) * share)
        return min(limit, max(context.compact_threshold or limit, LEAST_THRESHOLD))

    def _refuse_too_long(
        self, messages: Sequence[AnyMessage], tools: Sequence[BaseTool | dict[str, Any]], context: TurnContext
    ) -> None:
        window = self.size(context.parameters)
        if window and most_tokens(messages, tools) * MOST_BYTES_PER_TOKEN // BYTES_PER_TOKEN > window:
            detail = f"{room(messages, tools)} The model takes {window:,}."
            raise ModelFailure(replace(Failure("context too long"), detail=detail))

    def _name(self, parameters: Mapping[str, Any]) -> str:
        return str(parameters.get("model", self.model.model_name))


def turns_before(messages: Sequence[AnyMessage], tokens: int) -> int:
    """Return how many messages come before the newest turns, as many as have so many tokens; the last is always one.

    A turn begins with what a user says after somebody else; so calls and their results stay together.
    """
    starts = [
        at
        for at, message in enumerate(messages)
        if isinstance(message, HumanMessage) and not (at and isinstance(messages[at - 1], HumanMessage))
    ]
    kept, left = 0, tokens
    for start, end in zip(reversed(starts), [len(messages), *reversed(starts)], strict=False):
        left -= most_tokens(messages[start:end])
        if left < 0 and kept:
            break
        kept = len(messages) - start
    return len(messages) - kept if kept else 0


def with_summary(summary: str, messages: Sequence[AnyMessage], older: str = "") -> list[AnyMessage]:
    """Return messages with a summary of what was before them in the first one: some models want users to speak once.

    Where there is none, an older one that does not reach so far is shown.
    """
    words = f"{SUMMARY}{summary}" if summary else f"{SUMMARY}{older}\n\n{GAP}" if older else LEFT_OUT
    match messages:
        case [HumanMessage(content=str(text)) as first, *rest]:
            return [first.model_copy(update={"content": f"{words}\n\n{text}"}), *rest]
        case [HumanMessage(content=[*parts]) as first, *rest]:
            return [first.model_copy(update={"content": [{"type": "text", "text": words}, *parts]}), *rest]
        case _:
            return [HumanMessage(words), *messages]
