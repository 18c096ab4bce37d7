"""The ids of responses and of their items. Pure.

An item's id holds the random part of its response's id and its place there, so that the items of a response need no
index of their own. Nothing about a thread or a model is in them.
"""

import re
from typing import Literal
from uuid import uuid4

PREFIXES = {
    "message": "msg",
    "reasoning": "rs",
    "function_call": "fc",
    "function_call_output": "fco",
    "custom_tool_call": "ctc",
    "custom_tool_call_output": "ctco",
    "mcp_call": "mcp",
    "mcp_approval_request": "mcpr",
    "mcp_approval_response": "mcpa",
    "compaction": "cmp",
}
ITEM_ID = re.compile(rf"(?:{'|'.join(PREFIXES.values())})_(?P<response>[0-9a-f]{{32}})_[ioa][0-9]{{1,6}}")


def new_response_id() -> str:
    """Return the id of a new response: 122 random bits."""
    return f"resp_{uuid4().hex}"


def item_id(response_id: str, kind: str, place: int, side: Literal["i", "o", "a"]) -> str:
    """Return the id of an item: of this kind, at this place in the input, output or approvals of its response."""
    return f"{PREFIXES[kind]}_{response_id.removeprefix('resp_')}_{side}{place}"


def response_of(id_of_item: str | None) -> str | None:
    """Return the response that an item is of, if the id is one of ours."""
    found = ITEM_ID.fullmatch(id_of_item or "")
    return f"resp_{found['response']}" if found else None
