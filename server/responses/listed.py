"""Items in the form in which they are stored and listed. Pure."""

from typing import Any

from server.responses.ids import response_of
from server.responses.items import Item, McpCallItem, MessageItem, OutputItem, Part

Json = dict[str, Any]


def dump_item(item: Item, new_id: str) -> Json:
    """Return an item in the form in which it is listed, with its id if it is one of ours, or a new one."""
    is_ours = response_of(item.id) is not None
    listed: Json = {"id": item.id if is_ours else new_id, "type": item.type, "status": "completed"}
    match item:
        case MessageItem():
            kind = "output_text" if item.role == "assistant" else "input_text"
            parts = [Part(type=kind, text=item.content)] if isinstance(item.content, str) else item.content
            phase = {"phase": item.phase} if item.phase in ("commentary", "final_answer") else {}
            return {**listed, "role": item.role, "content": [_dump_part(part, kind) for part in parts], **phase}
        case OutputItem(output=list() as parts):
            return {**listed, "call_id": item.call_id, "output": [_dump_part(part, "input_text") for part in parts]}
        case McpCallItem():
            known = {"server_label", "name", "arguments", "output", "error"}
            status = "failed" if item.error else "completed"
            return {"approval_request_id": None, **item.model_dump(include=known), **listed, "status": status}
    return {**item.model_dump(include={*type(item).model_fields}, exclude_none=True), **listed}


def _dump_part(part: Part, text_type: str) -> Json:
    kind = text_type if part.type in ("text", "input_text", "output_text") else part.type
    always: Json = {"output_text": {"annotations": [], "logprobs": []}, "input_image": {"detail": "auto"}}
    known = part.model_dump(include={*Part.model_fields}, exclude_none=True)
    return {**always.get(kind, {}), **known, "type": kind}
