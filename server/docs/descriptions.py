"""Descriptions in /openapi.json of fields whose pydantic models have none."""

from collections.abc import Mapping
from typing import Any

# Fields that mean the same in every shape.
COMMON = {
    "object": "What this is.",
    "model": "The model that was asked for.",
    "choices": "The answers; more than one only with `n`.",
    "index": "Its place among the others, from 0.",
    "logprobs": "Always `null`.",
    "has_more": "Whether there are more after these.",
    "data": "What is listed.",
    "first_id": "The id of the first one listed.",
    "last_id": "The id of the last one listed; as `after`, it leads to the next page.",
    "type": "What kind it is.",
    "id": "Its id.",
    "call_id": "The call's id, by which its output is told from others.",
    "name": "The tool's name.",
    "text": "The text.",
    "refusal": "What the model says where it refuses to answer.",
    "phase": "`commentary` where tool calls follow, or `final_answer`.",
    "store": "Whether it is kept.",
    "stream": "Whether the answer comes as server-sent events while it is made.",
    "temperature": "How much chance there is in the answer; 0 is none.",
    "top_p": "The share of probability among which tokens are drawn.",
    "presence_penalty": "How much tokens that were there are avoided.",
    "frequency_penalty": "How much tokens are avoided, by how often they were there.",
    "user": "Who asks, for the model endpoint. It is no part of the session's name.",
    "description": "What it does and when to call it.",
    "parameters": "The JSON schema of its arguments.",
    "strict": "Whether the endpoint holds the arguments to the schema.",
    "total_tokens": "All of them.",
    "cached_tokens": "Tokens that the endpoint had read before.",
    "reasoning_tokens": "Tokens that the model thought with.",
    "deleted": "Always `true`.",
}

FIELDS = {
    "AgentEvent": {
        "id": "That of the answer.",
        "created": "In Unix seconds.",
        "choices": "Always empty: nothing is said.",
        "usage": "`null`, with `include_usage`.",
        "event": "What happened.",
    },
    "AllowedTools": {
        "mode": "`required`: one of them must be called.",
        "tools": "The tools, by their names.",
    },
    "AllowedToolsChoice": {
        "type": "The kind of choice.",
        "allowed_tools": "The tools, and whether one must be called.",
    },
    "Answer": {
        "role": "Who says it.",
        "annotations": "Always empty.",
    },
    "CallDelta": {
        "id": "In the first chunk of a call: its id.",
        "type": "In the first chunk of a call: its kind.",
        "function": "What the chunk adds to the name and the arguments.",
    },
    "CalledFunction": {"name": "The tool's name.", "arguments": "JSON as text."},
    "ChatRequest": {
        "stream": "Whether the answer comes as server-sent events while it is made.",
        "stream_options": "What the stream carries beside the answer.",
        "temperature": "How much chance there is in the answer; 0 is none.",
        "top_p": "The share of probability among which tokens are drawn.",
        "presence_penalty": "How much tokens that were there are avoided.",
        "frequency_penalty": "How much tokens are avoided, by how often they were there.",
        "max_completion_tokens": "The greatest number of tokens of each model call; -1 is none.",
        "seed": "The same seed makes the same answer more likely.",
        "stop": "Up to four texts at which the answer ends; they are not part of it.",
        "logit_bias": "How much tokens, by their ids, are wanted (100) or not (-100).",
        "response_format": "What form the answer's text must have.",
        "reasoning_effort": "How long the model thinks; which words it knows for that is up to the endpoint.",
        "user": "Who asks, for the model endpoint. It is no part of the session's name.",
    },
    "Choice": {"message": "What is said.", "finish_reason": "Why it ended; `tool_calls`: it waits for their results."},
    "Chunk": {"id": "The same in all chunks of an answer.", "choices": "What is added to the answers."},
    "ChunkChoice": {"delta": "What is added.", "finish_reason": "In the last chunk of an answer: why it ended."},
    "Completion": {"id": "The answer's id.", "usage": "The tokens that it took."},
    "CompletionTokens": {"reasoning_tokens": "Tokens that the model thought with."},
    "ContentPart": {
        "type": "Which of the other fields it has.",
        "text": "A text.",
        "image_url": "An image, in a user's message.",
        "file": "A file, in a user's message.",
        "input_audio": "A sound, in a user's message.",
        "refusal": "What an assistant said instead of an answer.",
    },
    "Delta": {
        "role": "In the first chunk: who speaks.",
        "content": "More of the text.",
        "refusal": "More of what the model says where it refuses to answer.",
        "reasoning": "The same as `reasoning_content`, for clients that read this name.",
        "reasoning_content": "More of what the model thought; not OpenAI's.",
        "tool_calls": "More of one call.",
    },
    "Error": {
        "message": "What is wrong and what to do, for a person.",
        "type": "The kind of error.",
        "param": "The parameter that is wrong, or `null`.",
        "code": "What is wrong, for a program, or `null`.",
    },
    "ErrorEnvelope": {"error": "What went wrong."},
    "File": {
        "filename": "The file's name.",
        "file_data": "Its content: base64, or a data URL.",
        "file_id": "Its id at the model endpoint.",
    },
    "FunctionDefinition": {
        "name": "The tool's name; it hides a tool of the server's of that name for this request.",
        "description": "What it does and when to call it.",
        "parameters": "The JSON schema of its arguments.",
        "strict": "Whether the endpoint holds the arguments to the schema.",
    },
    "FunctionDelta": {"name": "In the first chunk of a call: the tool's name.", "arguments": "More of the JSON."},
    "FunctionName": {"name": "The tool's name."},
    "AwaitedApproval": {"arguments": "What the model wants to run it with.", "server": "The tool's MCP server."},
    "Health": {"status": "Always the same: whoever answers is healthy."},
    "ImageUrl": {"url": "An http, https or data URL.", "detail": "How closely to look: `low`, `high` or `auto`."},
    "InputAudio": {"data": "Base64.", "format": "Such as `wav` or `mp3`."},
    "JsonSchema": {
        "name": "The schema's name.",
        "schema": "The JSON schema.",
        "strict": "Whether the endpoint holds the answer to it.",
    },
    "Message": {"name": "Who of several people or assistants speaks."},
    "Model": {"id": "The name to ask for it.", "owned_by": "Where it comes from."},
    "NamedTool": {"type": "The kind of tool.", "function": "The tool."},
    "PartHealth": {"state": "Whether it can be used.", "error": "Why it cannot."},
    "PromptTokens": {"cached_tokens": "Tokens that the endpoint had read before."},
    "Readiness": {
        "status": "`degraded`: without some tools; `unavailable`: without the model or the database.",
        "model": "The model endpoint.",
        "checkpointer": "The database.",
        "mcp": "The MCP servers, by their names.",
    },
    "ResponseFormat": {"type": "Any text, any JSON object, or JSON by a schema.", "json_schema": "The schema."},
    "ServerHealth": {
        "state": "Whether its tools can be used.",
        "tools": "How many tools it has.",
        "error": "Why it cannot be used.",
    },
    "SessionDeleted": {"id": "The id that it had.", "deleted": "Always `true`."},
    "SessionObject": {
        "id": "The session's id.",
        "created_at": "In Unix seconds.",
        "updated_at": "In Unix seconds: when its last turn was answered.",
        "turns": "How many turns its newest branch has.",
        "status": "`running`, `idle`, or `waiting` for the results of the client's tools, or for a person's approval.",
        "approvals": "The calls of the server's tools that wait for a person.",
        "branches": "How many branches it has: regenerating and editing begin new ones.",
        "bytes": "What the turns of all its branches have stored.",
    },
    "SessionPage": {
        "first_id": "The id of the first session of this page.",
        "last_id": "The id of the last, for `after`.",
    },
    "Tool": {"type": "The kind of tool.", "function": "The tool."},
    "ToolCall": {
        "id": "The call's id, which its result names.",
        "type": "The kind of tool.",
        "function": "What is called, and with what.",
    },
    "ToolEvent": {
        "type": "The kind of event.",
        "id": "The call's id.",
        "name": "The tool's name.",
        "arguments": "What it was called with.",
        "status": "How far it is.",
    },
    "Usage": {
        "prompt_tokens": "Tokens that the model read.",
        "completion_tokens": "Tokens that it wrote.",
        "total_tokens": "Both together.",
        "prompt_tokens_details": "Some of those that it read, where the endpoint tells.",
        "completion_tokens_details": "Some of those that it wrote, where the endpoint tells.",
    },
}


def describe_fields(schemas: Mapping[str, Any]) -> None:
    """Give each field of the document's schemas its description, unless it has one."""
    for schema, content in schemas.items():
        for name, field in content.get("properties", {}).items():
            said = FIELDS.get(schema, {}).get(name) or COMMON.get(name)
            if said and "description" not in field:
                field["description"] = said


def describe_answers(operation: Mapping[str, Any], schemas: Mapping[str, Any]) -> None:
    """Let an operation's answer be described by what it is."""
    for status, answer in operation["responses"].items():
        if status == "200":
            shape = answer["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
            answer["description"] = schemas[shape]["description"]
