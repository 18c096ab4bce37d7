"""How each parameter of a response is treated; docs/compatibility.md is for users."""

from server.messages.parameters import HONOURED, IGNORED, PASSED_ON, Parameter, Parameters

PARAMETERS = Parameters(
    {
        "model": HONOURED,
        "input": HONOURED,
        "instructions": Parameter("honoured", ("",)),
        "previous_response_id": Parameter("honoured", ("",)),
        "conversation": Parameter("honoured", ("",)),
        "store": HONOURED,
        "stream": HONOURED,
        "stream_options": Parameter("honoured", ({},)),
        "temperature": PASSED_ON,
        "top_p": PASSED_ON,
        "max_output_tokens": Parameter("honoured", (-1,)),  # no bound, as Open WebUI writes it
        "max_tool_calls": HONOURED,
        "tools": Parameter("honoured", ([],)),
        "tool_choice": Parameter("honoured", ("", {})),
        "parallel_tool_calls": PASSED_ON,
        "text": Parameter("honoured", ({},)),
        "reasoning": Parameter("honoured", ({},)),
        "user": Parameter("passed on", ("",)),
        "metadata": Parameter("honoured", ({},)),
        "session_id": HONOURED,
        "truncation": HONOURED,
        "context_management": Parameter("honoured", ([],)),
        "include": HONOURED,
        "top_logprobs": IGNORED,
        "service_tier": IGNORED,
        "safety_identifier": IGNORED,
        "prompt_cache_key": IGNORED,
        "background": HONOURED,
        "messages": Parameter("refused", moved_to="input"),
        "response_format": Parameter("refused", ({"type": "text"},), moved_to="text.format"),
        "max_tokens": Parameter("refused", (-1,), moved_to="max_output_tokens"),
        "max_completion_tokens": Parameter("refused", (-1,), moved_to="max_output_tokens"),
        "reasoning_effort": Parameter("refused", ("",), moved_to="reasoning.effort"),
        "prompt": Parameter("refused", ({},)),
        "moderation": Parameter("refused"),
    }
)
