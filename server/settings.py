"""The server's settings, beside the agent's own."""

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field, SecretStr, field_validator
from pydantic_settings import NoDecode

from graph.settings import AgentSettings
from server.http.key_file import LIMITS, KeysError, configured_keys
from server.http.keys import Key, load_key, plain_key
from tools.addresses import is_loopback
from tools.environment import HttpAddress, listed

DAY = 24 * 60 * 60


class ServerSettings(AgentSettings):
    """The address, the keys, the names of the model and the bounds of a run."""

    api_host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 for every interface")
    api_port: int = Field(23000, ge=0, le=65535, description="Port to listen on")
    api_workers: int = Field(
        1, ge=1, le=256, description="Server processes on that port; more than one share a PostgreSQL database"
    )
    api_keys: Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(listed)] = Field(
        (),
        description="Comma-separated keys, as key, name:key, or sha256:<hash>; once set, every route but /health needs "
        "one of them",
    )
    api_keys_file: Path | None = Field(None, description="TOML file of more keys, with limits for each")
    requests_per_minute: int = Field(0, ge=0, description="Requests of one key in a minute; 0 for any number")
    tokens_per_minute: int = Field(0, ge=0, description="Tokens of one key in a minute, read and written; 0 for any")
    runs_at_once: int = Field(0, ge=0, description="Requests of one key that are answered at once; 0 for any number")
    stored_bytes: int = Field(
        0, ge=0, description="Bytes that the sessions of one key, or of each of its users, may store; 0 for any number"
    )
    max_runs: int = Field(1_000, ge=1, description="Requests of all keys that are answered at once; others wait")
    max_queued: int = Field(100, ge=0, description="Requests that may wait for that; others are refused")
    metrics_key: SecretStr | None = Field(
        None, description="Key for /metrics; without one only this machine may read them"
    )
    trusted_user_header: str = Field(
        "", description="Header in which clients with the TRUSTED_KEYS name their users, e.g. X-OpenWebUI-User-Id"
    )
    trusted_keys: Annotated[tuple[str, ...], NoDecode, BeforeValidator(listed)] = Field(
        (), description="Comma-separated names of keys whose holders may name their users"
    )
    trusted_proxies: Annotated[tuple[str, ...], NoDecode, BeforeValidator(listed)] = Field(
        (), description="Comma-separated addresses of proxies whose X-Forwarded-For and X-Forwarded-Proto are believed"
    )
    model_aliases: Annotated[Mapping[str, str], NoDecode] = Field(
        {}, description="Other names for models (e.g., gpt-4o=llama3.2,*=llama3.2)"
    )
    max_request_bytes: int = Field(20_000_000, ge=1, description="Size of the largest request that is read")
    max_messages: int = Field(2_000, ge=1, description="Messages of the longest conversation that a request may send")
    max_values: int = Field(
        100_000, ge=1, description="JSON values of the largest request: its objects, texts, numbers"
    )
    cors_origins: Annotated[tuple[str, ...], NoDecode, BeforeValidator(listed)] = Field(
        (),
        description="Comma-separated origins of web pages that may use the API, or * (e.g., https://example.com)",
    )
    allowed_hosts: Annotated[tuple[str, ...], NoDecode, BeforeValidator(listed)] = Field(
        (),
        description="Comma-separated host names under which the server may be asked, *.example.com or * included; "
        "without it those of this machine, or all if there are keys",
    )
    models: Annotated[tuple[str, ...], NoDecode, BeforeValidator(listed)] = Field(
        (), description="Comma-separated models of the endpoint that clients may ask for; all that it has without it"
    )
    session_headers: Annotated[tuple[str, ...], NoDecode, BeforeValidator(listed)] = Field(
        ("X-Session-ID", "X-OpenWebUI-Chat-Id", "X-Conversation-Id"),
        description="Headers that may name the session; the first that a request has decides",
    )
    session_ttl: float = Field(
        30 * DAY, ge=0, description="Seconds after which a session that is not used is deleted; 0 keeps it for ever"
    )
    session_ttl_single: float = Field(DAY, ge=0, description="The same for a session of a single turn")
    session_wait: float = Field(
        30, ge=0, description="Seconds a request waits for the run before it in the same session"
    )
    playground: bool = Field(True, description="Whether LangServe's playground and REST door are served under /agent")
    session_max_messages: int = Field(
        20_000, ge=1, description="Messages of the longest session that goes on; a new one must be begun then"
    )
    otel_exporter_otlp_endpoint: HttpAddress | None = Field(
        None,
        description="Collector of OpenTelemetry for traces and metrics (e.g., http://localhost:4318); the SDK's other "
        "OTEL_ variables count too",
    )
    approve_by_text: bool = Field(
        False,
        description="Whether a user's yes may approve a tool call, in clients that can only show the question as text",
    )
    session_max_bytes: int = Field(
        100_000_000, ge=1, description="Bytes that the turns of a session may have stored; a new one must be begun then"
    )
    run_timeout: float = Field(300, gt=0, description="Seconds after which a run is ended")

    def keys(self) -> list[Key]:
        """Return the keys that are taken.

        Raises:
            KeysError: API_KEYS_FILE cannot be used, or others reach the server and know a key.
        """
        given = [key.get_secret_value() for key in self.api_keys]
        keys = configured_keys(given, self.api_keys_file, {name: getattr(self, name) for name in LIMITS})
        metrics = [plain_key(self.metrics_key.get_secret_value(), "METRICS_KEY")] if self.metrics_key else []
        is_reached = not is_loopback(self.api_host) or self.trusted_proxies
        if is_reached and (example := next((key for key in (*keys, *metrics) if key.is_example), None)):
            raise KeysError(
                f"The key {example.name} is an example that everybody knows, and others reach this server. Make one: "
                "openssl rand -hex 32."
            )
        return keys

    @field_validator("api_host")
    @classmethod
    def _is_only_a_host(cls, value: str) -> str:
        host = value.removeprefix("[").removesuffix("]")
        if not re.fullmatch(r"[\w.-]+|[0-9a-fA-F:.]*:[0-9a-fA-F:.]*:[0-9a-fA-F:.]*(%\w+)?", host):
            raise ValueError("it is a name or an address alone, without http:// and port; the port is API_PORT")
        return host

    @field_validator("api_keys")
    @classmethod
    def _are_keys(cls, value: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        for key in value:
            load_key(key.get_secret_value())
        return value

    @field_validator("allowed_hosts")
    @classmethod
    def _in_small_letters(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(name.lower() for name in value)

    @field_validator("model_aliases", mode="before")
    @classmethod
    def _split_aliases(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        with suppress(ValueError):
            return json.loads(value)
        pairs = [part.split("=", 1) for part in value.split(",") if part.strip()]
        if any(len(pair) != 2 or not pair[0].strip() or not pair[1].strip() for pair in pairs):
            raise ValueError("aliases are written name=model,other=model")
        return {name.strip(): model.strip() for name, model in pairs}
