"""The agent's settings: environment variables or `.env`."""

import re
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field, field_validator
from pydantic_settings import NoDecode

from graph.model.settings import ModelSettings
from graph.prompts import DEFAULT_PROMPT
from tools.environment import HttpAddress, listed


class AgentSettings(ModelSettings):
    """The model, its prompt, its tools and where sessions are kept."""

    free_text = frozenset({"system_prompt"})

    system_prompt: str = Field(DEFAULT_PROMPT, description="What the agent is told before every conversation")
    context_window: int = Field(
        0,
        ge=0,
        description="Tokens that the model takes, prompt and answer; 0 for what its endpoint tells. Where a "
        "conversation nears it, the oldest turns are summarized",
    )
    max_tool_rounds: int = Field(
        8, ge=1, le=100, description="Rounds of tool calls in a turn before the model must answer"
    )
    use_mcp_tools: bool = Field(True, description="Whether the agent has tools; true or false")
    mcp_base_url: HttpAddress | None = Field(
        None,
        description="Streamable HTTP MCP server (e.g., http://localhost:22000); the bundled one without it",
    )
    mcp_verify_ssl: bool = Field(True, description="Whether MCP servers must have a valid certificate")
    mcp_config: Path | None = Field(
        None, description='JSON file of MCP servers, {"mcpServers": {…}}, with ${VAR} from the environment or .env'
    )
    mcp_call_timeout: float = Field(
        60, gt=0, description="Seconds that one tool call may take, or be silent if it reports progress"
    )
    mcp_start_timeout: float = Field(60, gt=0, description="Seconds that an MCP server may take to start")
    approve_tools: Annotated[tuple[str, ...], NoDecode, BeforeValidator(listed)] = Field(
        (),
        description="Comma-separated tools that a person must approve, * included, beside those that their MCP server "
        "calls destructive; one with ! before it need not be",
    )
    agents: Annotated[tuple[str, ...], NoDecode, BeforeValidator(listed)] = Field(
        (),
        description="Comma-separated functions that return graphs of your own, as module:function; each is a model",
    )
    checkpoint_url: str = Field(
        "sqlite:///data/chat-agent.db",
        description="Where sessions are kept: sqlite:///relative.db, sqlite:////absolute.db, "
        "postgresql://user:password@host/database or memory://",
    )

    @field_validator("agents")
    @classmethod
    def _name_functions(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for path in value:
            if not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", path):
                raise ValueError("each is written module:function")
        return value

    @field_validator("checkpoint_url")
    @classmethod
    def _is_a_kind_of_database(cls, value: str) -> str:
        if re.match(r"rediss?://", value):
            raise ValueError("Redis cannot keep turns whole (see docs/scaling.md); use PostgreSQL, written as below")
        if not re.match(r"sqlite:///.|postgres(ql)?://.|memory://$", value):
            raise ValueError("sessions are kept in SQLite, in PostgreSQL or in memory, written as below")
        return value
