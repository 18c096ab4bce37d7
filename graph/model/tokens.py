"""Estimate token counts, for endpoints that report none."""

import asyncio
import logging
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import Any

import tiktoken
from langchain_core.messages import BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.tools import BaseTool

from graph.model.descriptions import described

log = logging.getLogger(__name__)

ENCODING = "o200k_base"
LOAD_TIMEOUT = 1.0
BYTES_PER_TOKEN = 4
TOKENS_PER_MESSAGE = 4
# Of most texts: a Korean syllable has three bytes, and is a token or less.
MOST_BYTES_PER_TOKEN = 3
TOKENS_PER_IMAGE = 1_000


async def estimated_usage(prompt: Sequence[BaseMessage], answer: str) -> UsageMetadata:
    """Estimate the usage of one model call by tiktoken, or by length where its vocabulary cannot be loaded."""
    encoding = await _encoding()
    read = sum(_count(encoding, str(message.text)) + TOKENS_PER_MESSAGE for message in prompt)
    written = _count(encoding, answer)
    return UsageMetadata(input_tokens=read, output_tokens=written, total_tokens=read + written)


async def estimated_prompt(prompt: Sequence[BaseMessage], tools: Sequence[BaseTool | dict[str, Any]]) -> int:
    """Estimate the tokens of a whole prompt, calls, tools and images included, which may be long: in a thread."""
    encoding = await _encoding()

    def count() -> int:
        texts = [text for message in prompt for text in _texts(message)]
        texts += (described(tool).text for tool in tools)
        beside = sum(TOKENS_PER_MESSAGE + TOKENS_PER_IMAGE * _media(message) for message in prompt)
        return sum(_count(encoding, text) for text in texts) + beside

    return await asyncio.to_thread(count)


def _count(encoding: tiktoken.Encoding | None, text: str) -> int:
    if encoding is None:
        return -(-len(text.encode(errors="replace")) // BYTES_PER_TOKEN)
    return len(encoding.encode(text, disallowed_special=()))


async def _encoding() -> tiktoken.Encoding | None:
    """Tiktoken downloads its vocabulary on first use, which an offline machine refuses or lets hang."""
    loading = _loading()
    if not loading.done():
        await asyncio.wait({asyncio.wrap_future(loading)}, timeout=LOAD_TIMEOUT)
    return loading.result() if loading.done() else None


@cache
def _loading() -> Future[tiktoken.Encoding | None]:
    return ThreadPoolExecutor(1, thread_name_prefix="tiktoken").submit(_load)


def _load() -> tiktoken.Encoding | None:
    try:
        return tiktoken.get_encoding(ENCODING)
    except OSError as error:
        log.warning("Token counts are estimated by length: tiktoken cannot load %s (%s).", ENCODING, error)
        return None


def most_tokens(messages: Sequence[BaseMessage], tools: Sequence[BaseTool | dict[str, Any]] = ()) -> int:
    """Return how many tokens messages and tools have at the most, for nearly every text and vocabulary."""
    size = sum(described(tool).size for tool in tools)
    return sum(map(_most, messages)) + -(-size // MOST_BYTES_PER_TOKEN)


def _most(message: BaseMessage) -> int:
    length = sum(len(text.encode(errors="replace")) for text in _texts(message))
    return -(-length // MOST_BYTES_PER_TOKEN) + TOKENS_PER_MESSAGE + TOKENS_PER_IMAGE * _media(message)


def _texts(message: BaseMessage) -> list[str]:
    """Return what a message says, and the calls in it."""
    calls = [*getattr(message, "tool_calls", ()), *getattr(message, "invalid_tool_calls", ())]
    return [str(message.text), *(f"{call['name']} {call['args']}" for call in calls)]


def _media(message: BaseMessage) -> int:
    """Return how many images and the like a message has."""
    parts = () if isinstance(message.content, str) else message.content
    return sum(isinstance(part, dict) and part.get("type") != "text" for part in parts)


def room(messages: Sequence[BaseMessage], tools: Sequence[BaseTool | dict[str, Any]]) -> str:
    """Return one sentence on what fills a request that is too long, in estimated tokens."""
    told = _hundreds(sum(len(str(message.content).encode(errors="replace")) for message in messages))
    of_them = _hundreds(sum(described(tool).size for tool in tools))
    of_tools = f", {of_them:,} of them for {len(tools)} tools" if tools else ""
    return f"About {told + of_them:,} tokens were sent{of_tools}."


def _hundreds(size: int) -> int:
    """Return how many tokens so many bytes are about, in hundreds."""
    return -(-size // (100 * BYTES_PER_TOKEN)) * 100
