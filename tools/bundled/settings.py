"""The bundled tools' settings: environment variables or `.env`."""

from typing import Annotated

from pydantic import BeforeValidator, Field
from pydantic_settings import NoDecode

from tools.environment import EnvironmentSettings, listed


class ToolSettings(EnvironmentSettings):
    """Where the bundled MCP server listens and which services its tools ask."""

    mcp_host: str = Field("127.0.0.1", description="Address of `chat-agent mcp`")
    mcp_port: int = Field(22000, ge=0, le=65535, description="Port of `chat-agent mcp`")
    mcp_allowed_hosts: Annotated[tuple[str, ...], NoDecode, BeforeValidator(listed)] = Field(
        (),
        description="Comma-separated hosts under which `chat-agent mcp` may be asked; all if it is not on loopback",
    )
    open_meteo_geocoding_url: str = Field(
        "https://geocoding-api.open-meteo.com", description="Where get_weather finds cities"
    )
    open_meteo_forecast_url: str = Field("https://api.open-meteo.com", description="Where get_weather gets forecasts")
    searxng_url: str | None = Field(
        None, description="SearXNG instance for search_web (JSON format on); public engines without one"
    )
