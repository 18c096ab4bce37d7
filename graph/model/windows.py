"""How many tokens a model takes, prompt and answer together, as its endpoint tells it. Pure."""

import re
from collections.abc import Mapping
from typing import Any

# vLLM, OpenRouter and Groq, LM Studio, llama.cpp, and others.
FIELDS = ("max_model_len", "context_length", "context_window", "max_context_length", "n_ctx")
# What tells a window in a refusal, the clearest first; other numbers in it are those of the request.
TOLD = [
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"(?:context (?:length|size|window)|max_model_len|n_ctx)\D{0,40}?(\d{3,8})\b",
        r"(?:max\w*|at most|only|up to|limit(?:ed)?(?: of| to)?)\D{0,20}(\d{3,8})\D{0,20}context",
    )
]
LEAST = 512


def load_windows(body: Any) -> dict[str, int]:
    """Return the windows that a list of models tells, by the models' names."""
    models = body.get("data", body.get("models")) if isinstance(body, Mapping) else body
    found = {}
    for model in models if isinstance(models, list) else ():
        if isinstance(model, Mapping) and (window := _window(model) or _window(model.get("meta"))):
            name = model.get("id") or model.get("name") or model.get("model")
            found[str(name)] = window
    return found


def window_in(words: str) -> int | None:
    """Return the window that an endpoint's refusal of a long prompt tells."""
    plain = words.replace(",", "")
    found = (int(told[1]) for pattern in TOLD for told in pattern.finditer(plain))
    return next((window for window in found if window >= LEAST), None)


def _window(about: object) -> int | None:
    values = [about.get(field) for field in FIELDS] if isinstance(about, Mapping) else []
    return next((value for value in values if isinstance(value, int) and value > 0), None)
