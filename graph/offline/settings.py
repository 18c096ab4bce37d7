"""Settings that name the embedded model. Its child process starts without them."""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import SecretStr, ValidationError

from graph.model.settings import ModelSettings
from graph.offline.process import MODEL_NAME, EmbeddedModel

# Placeholder, replaced by its address when the model has started.
UNSTARTED = "http://embedded.invalid"
EMBEDDED: Mapping[str, Any] = {"ollama_model": MODEL_NAME, "ollama_base_url": UNSTARTED, "ollama_api_key": "-"}
NO_MODEL = {("ollama_model", "missing"), ("ollama_base_url", "missing")}

Settings = TypeVar("Settings", bound=ModelSettings)


def settings_or_embedded(kind: type[Settings], **given: Any) -> Settings:
    """Read the settings; where they name no model, let them name the embedded one.

    Raises:
        ValidationError: a setting is wrong, or only one of the model's two is there.
    """
    try:
        return kind(**given)
    except ValidationError as error:
        if {(*detail["loc"], detail["type"]) for detail in error.errors()} != NO_MODEL:
            raise
    return kind(**EMBEDDED, **given)


def answered_by(model: EmbeddedModel, settings: Settings) -> Settings:
    """Return the settings with the running model as their endpoint.

    The temperature is 0 unless they say otherwise: at 0.7 its Korean is unreadable.
    """
    found: dict[str, Any] = {"ollama_base_url": model.base_url, "ollama_api_key": SecretStr(model.api_key)}
    if "context_window" in type(settings).model_fields and "context_window" not in settings.model_fields_set:
        found["context_window"] = model.window
    if "temperature" not in settings.model_fields_set:
        found["temperature"] = 0.0
    return settings.model_copy(update=found)
