"""Items in the form in which they are stored and listed. Pure."""

from typing import Any

from server.responses.ids import response_of
from server.responses.items import Item, McpCallItem, MessageItem, OutputItem, Part

Json = dict[str, Any]

# How closely to look at an image, in OpenAI's words.
DETAILS = ("low", "high", "auto", "original")


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
            known = item.model_dump(include={"server_label", "name", "arguments", "output"})
            # In the SDK's types an error is an object, in the document a text: what is neither is listed as its text.
            is_typed = isinstance(item.error, dict) and "type" in item.error
            error = item.error if is_typed else failure_of(item) or None
            status = "failed" if error else "completed"
            return {"approval_request_id": None, **known, "error": error, **listed, "status": status}
    return {**item.model_dump(include={*type(item).model_fields}, exclude_none=True), **listed}


def failure_of(call: McpCallItem) -> str:
    """Return what a call's error says: ours has parts of text, those of others a message."""
    match call.error:
        case str(text) | {"message": str(text)}:
            return text
        case {"content": [*parts]}:
            return "\n".join(str(part["text"]) for part in parts if isinstance(part, dict) and "text" in part)
    return ""


def _dump_part(part: Part, text_type: str) -> Json:
    kind = text_type if part.type in ("text", "input_text", "output_text") else part.type
    always: Json = {"output_text": {"annotations": [], "logprobs": []}, "input_image": {"detail": "auto"}}
    known = part.model_dump(include={*Part.model_fields}, exclude_none=True)
    if known.get("detail") not in DETAILS:
        known.pop("detail", None)
    return {**always.get(kind, {}), **known, "type": kind}
