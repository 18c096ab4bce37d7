"""Summaries of conversations, made by the model that goes on with them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.messages.ai import UsageMetadata, add_usage

from graph.history import all_calls
from graph.model.arguments import dump_arguments
from graph.model.client import ChatModel
from graph.model.tokens import most_tokens

PROMPT = (
    "Summarize the conversation below for an assistant that goes on with it and will not see it. Keep names, numbers, "
    "decisions, what the user wants and prefers, what tools found, and what is still open. Write in the language of "
    "the conversation. Write the summary and nothing else."
)
SUMMARY = "Summary of the conversation so far:\n"
# Tokens: a request for a summary has at least as many of the conversation.
LEAST = 256


async def summary_of(
    model: ChatModel,
    messages: Sequence[AnyMessage],
    *,
    before: str = "",
    instructions: Sequence[str] = (),
    parameters: Mapping[str, Any],
    most: int | None,
) -> tuple[str, UsageMetadata | None]:
    """Ask the model for a summary of the messages, in several steps where they are too long for one.

    Args:
        model: the model.
        messages: the conversation.
        before: the summary of what was before them.
        instructions: what the summary must also heed.
        parameters: fields of the model request, in OpenAI's names.
        most: tokens of a request; None for any number.

    Returns:
        The summary, and the tokens that it took.

    Raises:
        ModelFailure: the endpoint failed.
    """
    system = SystemMessage("\n\n".join([PROMPT, *instructions]))
    summary, usage = before, None
    room = None if most is None else max(most - most_tokens([system, HumanMessage(before)]), LEAST)
    for part in parts([line for message in messages for line in lines(message)], room):
        told = [f"{SUMMARY}{summary}", part] if summary else [part]
        answer = await model.answer(
            [system, HumanMessage("\n".join(told))], tools=(), parameters=parameters, streamed=False
        )
        summary, usage = str(answer.text).strip(), add_usage(usage, answer.usage_metadata)
    return summary, usage


def parts(texts: Sequence[str], room: int | None) -> Iterator[str]:
    """Yield texts together, as many as fit into so many tokens; one that is longer is cut into several."""
    if room is None:
        yield "\n".join(texts)
        return
    part: list[str] = []
    size = 0
    for piece in (piece for text in texts for piece in pieces(text, room)):
        tokens = most_tokens([HumanMessage(piece)])
        if part and size + tokens > room:
            yield "\n".join(part)
            part, size = [], 0
        part.append(piece)
        size += tokens
    if part:
        yield "\n".join(part)


def pieces(text: str, room: int) -> Iterator[str]:
    """Yield a text in pieces of at most so many tokens."""
    length = max(room // 2, 1)  # characters: the longest ones make more than a token each
    for start in range(0, max(len(text), 1), length):
        yield text[start : start + length]


def lines(message: AnyMessage) -> Iterator[str]:
    """Yield what a message is in the text that is summarized: who says or does what."""
    text = str(message.text)
    match message:
        case AIMessage():
            if text:
                yield f"Assistant: {text}"
            for call in all_calls(message):
                yield f"Assistant calls {call['name']}: {dump_arguments(call)}"
        case ToolMessage():
            yield f"Result: {text}"
        case _:
            yield f"User: {text}"
