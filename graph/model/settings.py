"""Which model answers, and where: environment variables or `.env`."""

from pathlib import Path

from pydantic import Field, SecretStr, field_validator

from graph.model.bounds import MEBIBYTE
from tools.environment import EnvironmentSettings, HttpAddress

# What is sent in place of a key: the openai package needs one, Ollama does not.
NO_KEY = "ollama"


class ModelSettings(EnvironmentSettings):
    """The model, its endpoint and how it samples."""

    ollama_model: str = Field(description="Ollama model name (e.g., llama3.2, google/gemma-3-27b-it)")
    ollama_base_url: HttpAddress = Field(description="Ollama API base URL (e.g., http://localhost:11434/v1)")
    ollama_api_key: SecretStr = Field(
        SecretStr(NO_KEY), description="API key of the model endpoint, where it wants one"
    )
    temperature: float = Field(0.7, ge=0, le=2, description="Sampling temperature, 0 to 2")
    first_token_timeout: float = Field(
        120, gt=0, description="Seconds that the model may take to begin; some servers load it for a minute and longer"
    )
    token_timeout: float = Field(120, gt=0, description="Seconds that the model may be silent in an answer")
    max_line_bytes: int = Field(MEBIBYTE, ge=2**16, description="Bytes of the longest line of a model's stream")
    max_answer_length: int = Field(
        4 * MEBIBYTE, ge=1, description="Characters of a model's longest answer; it is cut there"
    )
    max_arguments_length: int = Field(
        MEBIBYTE, ge=1, description="Characters of the arguments of all tool calls in a model's answer"
    )
    embedded_model: Path | None = Field(
        None, description="GGUF file for `chat-agent demo`; a small one is fetched without it"
    )

    @field_validator("ollama_api_key")
    @classmethod
    def _fits_in_a_header(cls, value: SecretStr) -> SecretStr:
        key = value.get_secret_value().strip()
        if not (key.isascii() and key.isprintable()):
            raise ValueError("it has characters that no HTTP header can have")
        return SecretStr(key)
