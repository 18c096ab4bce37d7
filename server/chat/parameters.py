"""How each parameter of a chat completion is treated; docs/compatibility.md is for users."""

from server.messages.parameters import HONOURED, PASSED_ON, Parameter, Parameters

PARAMETERS = Parameters(
    {
        "model": HONOURED,
        "messages": HONOURED,
        "stream": HONOURED,
        "stream_options": Parameter("honoured", ({},)),
        "temperature": PASSED_ON,
        "top_p": PASSED_ON,
        "presence_penalty": PASSED_ON,
        "frequency_penalty": PASSED_ON,
        "n": HONOURED,
        "max_tokens": Parameter("honoured", (-1,)),  # no bound, as LM Studio and Open WebUI write it
        "max_completion_tokens": Parameter("passed on", (-1,)),
        "seed": PASSED_ON,
        "stop": Parameter("passed on", ("", [], [""])),
        "logit_bias": Parameter("passed on", ({},)),
        "response_format": Parameter("passed on", ({"type": "text"},)),
        "reasoning_effort": Parameter("passed on", ("",)),
        "user": Parameter("passed on", ("",)),
        "safety_identifier": Parameter("ignored"),
        "tools": Parameter("honoured", ([],)),
        "tool_choice": Parameter("honoured", ("", {})),
        "parallel_tool_calls": PASSED_ON,
        "functions": Parameter("refused", ([],)),
        "function_call": Parameter("refused", ("none",)),
        "logprobs": Parameter("refused", (False,)),
        "top_logprobs": Parameter("refused", (0,)),
        "modalities": Parameter("refused", (["text"], [])),
        "audio": Parameter("refused", ({},)),
        "web_search_options": Parameter("refused"),
        "moderation": Parameter("refused"),
        "store": HONOURED,
        "metadata": Parameter("honoured", ({},)),
        "session_id": HONOURED,
    }
)
