# ruff: noqa: E501  # one error of one endpoint is one line
"""What the failure of a model endpoint means, however it is worded. The texts are those of public reports."""

from typing import Any

import pytest

from graph.model.error_body import words
from graph.model.failures import Meaning, read_failure, reported_failure

TOO_LONG: Meaning = "context too long"
NO_TOOLS: Meaning = "no tools"

# meaning, status, body
TABLE: list[tuple[Meaning, int | None, Any]] = [
    (TOO_LONG, 400, {"error": {"message": "This model's maximum context length is 8192 tokens. However, your messages resulted in 8545 tokens.", "code": "context_length_exceeded"}}),
    (TOO_LONG, 400, {"error": {"code": "context_length_exceeded", "message": "no"}}),
    (TOO_LONG, 400, {"error": "Trying to keep the first 5000 tokens when context the overflows. However, the model is loaded with context length of only 4096 tokens, which is not enough."}),
    (TOO_LONG, 400, {"error": "The number of tokens to keep from the initial prompt is greater than the context length."}),
    (TOO_LONG, None, {"error": {"message": "The number of tokens to keep from the initial prompt is greater than the context length (n_keep: 5021>= n_ctx: 4096)."}}),
    (TOO_LONG, 400, {"error": {"code": 400, "message": "the request exceeds the available context size. try increasing the context size or enable context shift", "type": "invalid_request_error"}}),
    (TOO_LONG, 400, {"error": {"code": 400, "message": "request (9000 tokens) exceeds the available context size (4096 tokens), try increasing it", "type": "exceed_context_size_error", "n_prompt_tokens": 9000, "n_ctx": 4096}}),
    (TOO_LONG, 422, {"error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000 `inputs` tokens and 100 `max_new_tokens`", "error_type": "validation"}),
    (TOO_LONG, 422, {"error": "Input validation error: `inputs` must have less than 4095 tokens. Given: 6000", "error_type": "validation"}),
    (TOO_LONG, 413, {"error": {"message": "Request too large for model `llama3-8b` on tokens per minute (TPM): Limit 6000, Requested 7005", "code": "rate_limit_exceeded"}}),
    (TOO_LONG, 400, {"error": {"message": "Please reduce the length of the messages or completion.", "type": "invalid_request_error"}}),
    (TOO_LONG, 400, {"type": "error", "error": {"type": "invalid_request_error", "message": "prompt is too long: 214850 tokens > 200000 maximum"}}),
    (TOO_LONG, 400, {"error": {"message": "The input token count (1196265) exceeds the maximum number of tokens allowed (1048575)."}}),
    (TOO_LONG, 400, {"message": "Input is too long for requested model."}),
    (TOO_LONG, 400, {"error": "This model's maximum prompt length is 131072 but the request contains 537812 tokens."}),
    (TOO_LONG, 400, {"object": "error", "message": "The decoder prompt (length 9001) is longer than the maximum model length of 4096. Make sure that `max_model_len` is no smaller.", "code": 400}),
    (TOO_LONG, 400, {"error": {"message": "Your input exceeds the context window of this model. Please adjust your input and try again."}}),
    (TOO_LONG, 400, {"error": {"message": "Prompt contains 40000 tokens, too large for model with 32768 maximum context length"}}),
    (TOO_LONG, 400, {"error": {"message": "Prompt exceeds max length", "code": "1261"}}),
    (TOO_LONG, 400, {"error": {"message": "too many tokens: size limit exceeded by 200 tokens"}}),
    (TOO_LONG, 500, {"error": "input length exceeds maximum context length"}),
    (TOO_LONG, 400, {"error": {"message": "Your request exceeded model token limit: 262144"}}),
    (TOO_LONG, 400, {"detail": "Input tokens exceed the configured limit of 272000 tokens. Your messages resulted in 279540 tokens."}),
    (TOO_LONG, 400, "prompt too long; exceeded max context length by 12 tokens"),
    (NO_TOOLS, 400, {"error": {"message": "registry.ollama.ai/library/gemma:2b does not support tools", "type": "api_error"}}),
    (NO_TOOLS, 400, {"error": "llama2 does not support tools"}),
    (NO_TOOLS, 400, {"object": "error", "message": '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set', "code": 400}),
    (NO_TOOLS, 500, {"error": {"message": "tools param requires --jinja flag", "code": 500}}),
    (NO_TOOLS, 404, {"error": {"message": "No endpoints found that support tool use. To learn more about provider routing, visit: …", "code": 404}}),
    (NO_TOOLS, 400, {"error": {"message": "tools is not supported in this model. For a list of supported models, refer to …"}}),
    (NO_TOOLS, 400, {"error": {"message": "Function calling is not enabled for models/gemma-3-27b-it"}}),
    (NO_TOOLS, 400, {"error": {"message": "`tool calling` is not supported with this model"}}),
    (NO_TOOLS, 400, {"error": {"message": "This model doesn't support tool use in streaming mode."}}),
    (NO_TOOLS, 400, {"message": "This model doesn't support function calling."}),
    (NO_TOOLS, 400, {"error": {"message": "Unrecognized request argument supplied: tools"}}),
    (NO_TOOLS, 400, {"error": {"message": "Tool calls are not supported by the loaded model."}}),
    (NO_TOOLS, None, {"error": {"message": "model does not support tools"}}),
    ("refused", 400, {"error": {"message": "Invalid 'tools[0].function.name': string does not match pattern.", "param": "tools[0].function.name"}}),
    ("refused", 400, {"error": {"message": "This model does not support parallel tool calls."}}),
    ("refused", 400, {"error": {"message": "deepseek-reasoner does not support this tool_choice"}}),
    ("refused", 400, {"error": {"message": "max_tokens is too large: 100000. This model supports at most 4096 completion tokens."}}),
    ("refused", 400, {"detail": [{"loc": ["body", "messages"], "msg": "field required", "type": "value_error.missing"}]}),
    ("refused", 422, {"detail": "nope"}),
    ("refused", 409, "busy"),
    ("refused", 400, {"error": {"message": "Invalid schema for function 'get_weather': In context=('properties', 'a'), 'oneOf' is not permitted."}}),
    ("refused", 400, {"error": {"message": "Tool schema keyword '$ref' is not supported"}}),
    ("refused", 400, {"error": {"message": "Streaming is not supported when using tools"}}),
    ("refused", 400, {"error": {"message": "response_format json_schema is not supported with tools"}}),
    ("refused", 400, {"error": {"message": "This model does not support multiple tool calls"}}),
    ("refused", 400, {"error": {"message": "Message content for tool messages: array is not supported"}}),
    ("refused", 400, {"error": {"message": "Duplicate function name not allowed"}}),
    (NO_TOOLS, 400, {"error": {"message": "`tools` is not supported in this model"}}),
    (NO_TOOLS, 400, {"error": {"message": "'tools' is not supported with this model"}}),
    ("refused", 400, {"error": {"message": "max_tokens (9000) exceeds the model's output token limit"}}),
    ("refused", 400, {"error": {"message": "'user' exceeds maximum length"}}),
    ("refused", 400, {"error": {"message": "Metadata value exceeds the maximum length of 512 characters"}}),
    ("refused", 400, {"error": {"message": "Please reduce the length of the tool description"}}),
    (TOO_LONG, 400, {"error": {"message": "'max_tokens' is too large: 4000. This model's maximum context length is 4096 tokens and your request has 500 input tokens"}}),
    ("refused", 400, {"error": {"message": "Could not process image"}}),
    ("refused", 400, {"error": {"message": "The image data you provided does not represent a valid image"}}),
    ("refused", 400, {"error": {"message": "You uploaded an unsupported image. Please make sure your image has one of these formats"}}),
    ("refused", 400, {"error": {"message": "Invalid URL: messages[0].content[1].image_url.url"}}),
    ("no images", 400, {"error": {"message": "At most 0 image(s) may be provided in one request."}}),
    ("rate limited", 429, {"error": {"message": "Rate limit reached for gpt-4o in organization org-x on requests per min. Please try again in 20s. Visit https://x/account/billing to add a payment method.", "code": "rate_limit_exceeded"}}),
    ("rate limited", 429, {"error": {"message": "Too many tokens, please wait before trying again."}}),
    ("rate limited", 429, {"error": {"message": "Number of request tokens has exceeded your per-minute rate limit"}}),
    ("wrong key", 400, {"error": {"message": "Incorrect API key provided: xa***. You can obtain an API key from …"}}),
    ("wrong key", 400, [{"error": {"code": 400, "message": "API key not valid. Please pass a valid API key.", "status": "INVALID_ARGUMENT"}}]),
    ("wrong key", 401, {"error": {"message": "Check your billing"}}),
    ("rate limited", None, [{"error": {"code": 429, "message": "Resource has been exhausted (e.g. check quota)."}}]),
    ("failed", 503, {"error": {"message": "The model x is not available at the moment"}}),
    ("no images", 500, {"error": {"message": "image input is not supported - hint: if this is unexpected, you may need to provide the mmproj"}}),
    ("no images", 400, {"error": {"message": "Invalid content type. image_url is only supported by certain models."}}),
    ("no images", 404, {"error": {"message": "No endpoints found that support image input", "code": 404}}),
    ("no images", 400, {"error": "This model does not support image inputs."}),
    ("no images", 400, {"object": "error", "message": "google/gemma-3-1b-it is not a multimodal model None"}),
    ("no images", 400, {"error": "Vision is not supported by this model"}),
    ("no temperature", 400, {"error": {"message": "Unsupported value: 'temperature' does not support 0.7 with this model. Only the default (1) value is supported.", "param": "temperature", "code": "unsupported_value"}}),
    ("no stream options", 400, {"error": {"message": "Unrecognized request argument supplied: stream_options"}}),
    ("no stream options", 422, {"detail": "Extra inputs are not permitted: stream_options"}),
    ("filtered", 400, {"error": {"code": "content_filter", "message": "The response was filtered due to the prompt triggering content management policy."}}),
    ("no credit", 429, {"error": {"message": "You exceeded your current quota, please check your plan and billing details.", "code": "insufficient_quota"}}),
    ("no credit", 402, {"error": {"message": "Insufficient credits. Add more using …", "code": 402}}),
    ("no credit", 402, ""),
    ("no model", 404, {"error": {"message": 'model "llama9" not found, try pulling it first', "type": "api_error"}}),
    ("no model", 404, {"object": "error", "message": "The model `x` does not exist.", "type": "NotFoundError", "code": 404}),
    ("no model", 404, {"error": "model 'gemma9' not found"}),
    ("no model", 400, {"error": {"message": "x/y is not a valid model ID", "code": 400}}),
    ("no model", 404, {"error": {"message": "No models loaded. Please load a model in the developer page or use the `lms load` command."}}),
    ("no model", 400, {"error": {"message": "Invalid model name passed in model=x. Call `/v1/models` to view available models"}}),
    ("no model", 404, {"error": {"code": 404, "message": "models/gemini-x is not found for API version v1main", "status": "NOT_FOUND"}}),
    ("wrong address", None, {"error": "Unexpected endpoint or method. (POST /chat/completions). Returning 200 anyway"}),
    ("wrong address", 404, "404 page not found"),
    ("wrong address", 404, {"detail": "Not Found"}),
    ("wrong address", 405, {"detail": "Method Not Allowed"}),
    ("wrong address", None, "<!doctype html><title>Open WebUI</title>"),
    ("wrong key", 401, {"error": {"message": "Incorrect API key provided"}}),
    ("wrong key", 403, ""),
    ("rate limited", 429, {"error": {"message": "slow down"}}),
    ("rate limited", None, {"error": {"type": "rate_limit_error", "message": "Number of requests is too high"}}),
    ("rate limited", None, {"error": {"code": "429", "message": "busy"}}),
    ("too large", 413, "<html>413 Request Entity Too Large</html>"),
    ("timed out", 504, ""),
    ("timed out", None, {"error": {"code": 524, "message": "A timeout occurred"}}),
    ("refused", None, {"error": {"code": 400, "message": "bad schema"}}),
    ("refused", None, {"object": "error", "message": "Bad schema", "type": "BadRequestError", "code": 400}),
    ("failed", 500, {"error": "secret stack"}),
    ("failed", 503, {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}),
    ("no memory", 500, {"error": {"message": "model requires more system memory (5.6 GiB) than is available (3.2 GiB)"}}),
    ("no memory", None, {"error": {"message": "CUDA out of memory"}}),
    ("failed", None, {"error": True}),
]  # fmt: skip


@pytest.mark.parametrize(("meaning", "status", "body"), TABLE, ids=lambda value: words(value)[:60] or str(value)[:40])
def test_e9_e10_e12_a_failure_is_read_by_its_words_its_code_and_its_status(
    meaning: Meaning, status: int | None, body: Any
) -> None:
    assert read_failure(status, body).meaning == meaning


def test_what_a_broken_endpoint_says_of_its_insides_is_not_told() -> None:
    assert read_failure(500, {"error": "secret stack"}).words == ""
    assert read_failure(None, {"error": "no such prompt"}).words == "no such prompt"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"error": {"message": "a"}}, "a"),
        ({"error": "a\n  b"}, "a b"),
        ({"error": {"error": {"message": "a"}}}, "a"),
        ({"detail": "a"}, "a"),
        ({"detail": {"message": "a"}}, "a"),
        ({"detail": [{"loc": ["body", "model"], "msg": "a"}, {"msg": "b"}]}, "body.model: a; b"),
        ({"errors": [{"message": "a"}, {"message": "b"}]}, "a; b"),
        ({"message": "a", "code": 1}, "a"),
        ({"msg": "a"}, "a"),
        ({"error": {"message": "Provider returned error", "metadata": {"raw": "a"}}}, "Provider returned error: a"),
        ("a", "a"),
        ("<html>a</html>", ""),
        ({"error": {"message": "x" * 900}}, "x" * 900),
        ({"error": "\x1b[2Ja\x00b"}, "[2Ja b"),
        ({"error": True}, ""),
        ([], ""),
        (None, ""),
        (5, ""),
    ],
)
def test_e9_the_words_of_an_error_are_found_in_any_form(body: Any, said: str) -> None:
    assert words(body) == said


@pytest.mark.parametrize(
    ("said", "is_one"),
    [
        ({"choices": [], "usage": {"prompt_tokens": 1}}, False),
        ({"choices": [{"delta": {"content": "x"}}], "error": None}, False),
        ({"choices": [{"delta": {}}], "detail": "high"}, False),
        ({"id": "x", "object": "chat.completion.chunk"}, False),
        ({"type": "ping"}, False),
        ({}, False),
        ({"error": {"message": "x"}}, True),
        ({"error": "x"}, True),
        ({"choices": [], "error": {"message": "x"}}, True),
        ({"object": "error", "message": "x"}, True),
        ({"type": "error", "message": "x"}, True),
        ({"detail": "x"}, True),
    ],
)
def test_e5_e10_an_event_is_an_error_only_if_it_says_so(said: dict[str, Any], is_one: bool) -> None:
    assert (reported_failure(said) is not None) is is_one
