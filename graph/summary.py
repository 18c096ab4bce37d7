"""A summary of a conversation, made by the model that goes on with it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, SystemMessage, ToolMessage

from graph.event_queue import EventQueue
from graph.events import MessageEnded, Text
from graph.history import all_calls
from graph.model.calls import dump_arguments
from graph.model.client import ChatModel

PROMPT = (
    "Summarize the conversation below for an assistant that goes on with it and will not see it. Keep names, numbers, "
    "decisions, what the user wants and prefers, what tools found, and what is still open. Write in the language of "
    "the conversation. Write the summary and nothing else."
)
SUMMARY = "Summary of the conversation so far:\n"


async def summarize(
    model: ChatModel,
    messages: Sequence[AnyMessage],
    instructions: Sequence[str],
    parameters: Mapping[str, Any],
    queue: EventQueue,
) -> None:
    """Ask the model for a summary of the messages, and tell it to the queue as one text.

    Args:
        model: the model.
        messages: the conversation.
        instructions: what the summary must also heed.
        parameters: fields of the model request, in OpenAI's names.
        queue: what is told.

    Raises:
        ModelFailure: the endpoint failed, or the conversation is longer than the model's context.
    """
    system = SystemMessage("\n\n".join([PROMPT, *instructions]))
    told = HumanMessage("\n".join(line for message in messages for line in _lines(message)))
    answer = await model.answer([system, told], tools=(), parameters=parameters, streamed=False)
    queue.tell(Text(answer.id, str(answer.text)))
    queue.tell(MessageEnded(answer.id, answer.response_metadata.get("finish_reason"), answer.usage_metadata))
    await queue.all_taken()


def _lines(message: AnyMessage) -> Iterator[str]:
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
