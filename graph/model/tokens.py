"""Estimate token counts, for endpoints that report none."""

import asyncio
import json
import logging
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import Any

import tiktoken
from langchain_core.messages import BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool

log = logging.getLogger(__name__)

ENCODING = "o200k_base"
LOAD_TIMEOUT = 1.0
BYTES_PER_TOKEN = 4
TOKENS_PER_MESSAGE = 4


async def estimated_usage(prompt: Sequence[BaseMessage], answer: str) -> UsageMetadata:
    """Estimate the usage of one model call by tiktoken, or by length where its vocabulary cannot be loaded."""
    encoding = await _encoding()

    def count(text: str) -> int:
        if encoding is None:
            return -(-len(text.encode()) // BYTES_PER_TOKEN)
        return len(encoding.encode(text, disallowed_special=()))

    read = sum(count(str(message.text)) + TOKENS_PER_MESSAGE for message in prompt)
    written = count(answer)
    return UsageMetadata(input_tokens=read, output_tokens=written, total_tokens=read + written)


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


def room(messages: Sequence[BaseMessage], tools: Sequence[BaseTool | dict[str, Any]]) -> str:
    """Return one sentence on what fills a request that is too long, in estimated tokens."""
    told = _hundreds(str(message.content) for message in messages)
    described = _hundreds(json.dumps(convert_to_openai_tool(tool), ensure_ascii=False) for tool in tools)
    of_tools = f", {described:,} of them for {len(tools)} tools" if tools else ""
    return f"About {told + described:,} tokens were sent{of_tools}."


def _hundreds(texts: Iterable[str]) -> int:
    """Return how many tokens texts are about, in hundreds."""
    return -(-sum(len(text.encode(errors="replace")) for text in texts) // (100 * BYTES_PER_TOKEN)) * 100
