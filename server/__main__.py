"""The `chat-agent` command: serve, demo, mcp."""

import argparse
import asyncio
import re
import socket
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any, TypeVar

from pydantic import SecretStr, ValidationError
from pydantic_settings import BaseSettings

from server import __version__
from server.settings import ServerSettings
from tools.settings import ToolSettings

Settings = TypeVar("Settings", bound=BaseSettings)

RULE = "=" * 60
SHOWN = ("ollama_model", "ollama_base_url", "temperature", "use_mcp_tools", "api_host", "api_port")
LOOPBACK = ("127.0.0.1", "localhost", "::1")
SHUTDOWN_TIMEOUT = 20
EMBEDDED_MODEL_NAME = "qwen2.5-coder-1.5b"


class CommandError(Exception):
    """The command cannot go on; the message is for the person at the terminal."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and exit with its status."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except CommandError as error:
        print(error, file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def serve(_: argparse.Namespace) -> None:
    """Serve the agent on the configured model."""
    settings = load_settings(ServerSettings)
    require_free_port(settings.api_host, settings.api_port, "API_PORT")
    print(banner(settings), flush=True)
    run_server(settings)


def demo(_: argparse.Namespace) -> None:
    """Serve the agent on the embedded model; nothing needs to be configured."""
    settings = load_settings(
        ServerSettings,
        ollama_model=EMBEDDED_MODEL_NAME,
        ollama_base_url="http://127.0.0.1",
        ollama_api_key="-",
    )
    require_free_port(settings.api_host, settings.api_port, "API_PORT")
    threading.Thread(target=import_module, args=["server.app"]).start()  # two seconds that the model loads in anyway
    try:
        from graph.embedded import EmbeddedModel, EmbeddedModelError
        from graph.weights import WeightsError, find_weights
    except ModuleNotFoundError as error:
        raise CommandError(f"The demo needs its extra packages ({error.name}); run `make setup`.") from error
    try:
        weights = find_weights(settings.embedded_model)
        print("Starting the embedded model …", flush=True)
        with EmbeddedModel(weights) as model:
            endpoint = {"ollama_base_url": model.base_url, "ollama_api_key": SecretStr(model.api_key)}
            settings = settings.model_copy(update=endpoint)
            run_server(settings, when_ready=lambda: print(invitation(settings), flush=True))
    except (WeightsError, EmbeddedModelError) as error:
        raise CommandError(f"ERROR: {error}") from error


def mcp(options: argparse.Namespace) -> None:
    """Serve the bundled tools to any MCP client."""
    settings = load_settings(ToolSettings)
    if options.stdio:
        from tools.mcp_server import main as serve_stdio

        serve_stdio()
        return
    require_free_port(settings.mcp_host, settings.mcp_port, "MCP_PORT")
    from tools.mcp_server import build_server

    print(f"MCP server on http://{settings.mcp_host}:{settings.mcp_port}/mcp (streamable HTTP)", flush=True)
    build_server(settings).run("streamable-http")


def load_settings(kind: type[Settings], **given: Any) -> Settings:
    """Read the settings from the environment and `.env`.

    Raises:
        CommandError: some are missing or wrong; the message names them.
    """
    try:
        return kind(**given)
    except ValidationError as error:
        missing = [details for details in error.errors() if details["type"] == "missing"]
        if missing:
            names = [str(details["loc"][0]) for details in missing]
            raise CommandError(missing_screen({name: _description(kind, name) for name in names})) from error
        raise CommandError("\n".join(_wrong_value(kind, details) for details in error.errors())) from error
    except UnicodeDecodeError as error:
        raise CommandError("ERROR: .env is not UTF-8; save it in that encoding.") from error


def missing_screen(described: Mapping[str, str]) -> str:
    """Return the screen that says which required settings are missing and what to do."""
    listed = "\n".join(f"  - {name.upper()}: {description}" for name, description in described.items())
    return (
        f"{RULE}\nERROR: Missing required environment variables\n{RULE}\n\n"
        f"The following variables must be set in .env file:\n\n{listed}\n\n"
        "Please create a .env file with these variables.\nYou can copy from .env.example:\n\n"
        "  cp .env.example .env\n\n"
        f"Then edit .env and set the appropriate values.\n{RULE}"
    )


def banner(settings: ServerSettings) -> str:
    """Return what was configured, without any secret."""
    lines = [f"{name.upper()}: {_shown(getattr(settings, name))}" for name in SHOWN]
    return "\n".join([RULE, "Configuration Loaded", RULE, *lines, RULE])


def invitation(settings: ServerSettings) -> str:
    """Return where everything is, and a first question to paste."""
    host = "127.0.0.1" if settings.api_host in ("0.0.0.0", "::") else settings.api_host
    url = f"http://{host}:{settings.api_port}"
    body = (
        f'{{"model": "{settings.ollama_model}", "stream": true, '
        '"messages": [{"role": "user", "content": "서울 날씨 알려줘"}]}'
    )
    return (
        f"\nchat-agent is ready.\n\n  API         {url}/v1\n  Docs        {url}/docs\n"
        f"  Playground  {url}/agent/playground/\n\nAsk it something from another terminal:\n\n"
        f"  curl -N {url}/v1/chat/completions -H 'Content-Type: application/json' \\\n    -d '{body}'\n\n"
        "Ctrl-C ends it.\n"
    )


def require_free_port(host: str, port: int, setting: str) -> None:
    """Find out now, not after the start, that somebody else listens there.

    Raises:
        CommandError: the address cannot be listened on.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise CommandError(
                f"ERROR: {host}:{port} cannot be used: {reason}. Set {setting} to another port."
            ) from error


def run_server(settings: ServerSettings, when_ready: Callable[[], None] = lambda: None) -> None:
    """Check what can be checked before the start, then serve until told to stop.

    Raises:
        CommandError: the MCP configuration or the database cannot be used.
    """
    import uvicorn

    from graph.checkpoints import CheckpointUrlError, open_checkpointer
    from graph.factory import mcp_connections
    from server.app import create_app
    from server.replies import DRAIN_SECONDS
    from tools.mcp_config import McpConfigError

    async def open_once() -> None:
        async with open_checkpointer(settings.checkpoint_url):
            pass

    class Server(uvicorn.Server):
        """uvicorn, with a word when it is up and an end to runs that outlast its patience."""

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                when_ready()

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            runs = app.state.services.runs
            asyncio.get_running_loop().call_later(DRAIN_SECONDS, runs.stop_all)
            await super().shutdown(sockets)

    try:
        mcp_connections(settings)
        asyncio.run(open_once())
    except (McpConfigError, CheckpointUrlError) as error:
        raise CommandError(f"ERROR: {error}") from error

    if settings.api_host not in LOOPBACK and not settings.api_keys:
        print(
            f"WARNING: {settings.api_host} can be reached from other machines and API_KEYS is empty: "
            "anybody there can use this agent.",
            file=sys.stderr,
        )
    app = create_app(settings)
    server = Server(
        uvicorn.Config(
            app,
            host=settings.api_host,
            port=settings.api_port,
            log_config=log_config(uvicorn.config.LOGGING_CONFIG),
            timeout_graceful_shutdown=SHUTDOWN_TIMEOUT,
        )
    )
    server.run()
    if not server.started:
        sys.exit(1)


def log_config(uvicorns: Mapping[str, Any]) -> dict[str, Any]:
    """Let our loggers speak like uvicorn's, and the MCP SDK be silent: our client says what it needs in one line."""
    ours = {
        name: {"handlers": ["default"], "level": "INFO", "propagate": False} for name in ("graph", "server", "tools")
    }
    return {
        **uvicorns,
        "loggers": {**uvicorns["loggers"], **ours, "mcp": {"handlers": [], "level": "CRITICAL"}},
    }


def _parser() -> argparse.ArgumentParser:
    settings = {**ServerSettings.model_fields, **ToolSettings.model_fields}
    listed = "\n".join(f"  {name.upper():<25} {field.description}" for name, field in settings.items())
    parser = argparse.ArgumentParser(
        prog="chat-agent",
        description="An agent with MCP tools and durable sessions, behind an OpenAI-compatible API.",
        epilog=f"settings, from the environment or .env:\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"chat-agent {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in (serve, demo, mcp):
        added = commands.add_parser(command.__name__, help=command.__doc__, description=command.__doc__)
        added.set_defaults(run=command)
        if command is mcp:
            added.add_argument("--stdio", action="store_true", help="speak over standard input and output")
    return parser


def _description(kind: type[BaseSettings], name: str) -> str:
    return kind.model_fields[name].description or ""


def _wrong_value(kind: type[BaseSettings], details: Mapping[str, Any]) -> str:
    name = str(details["loc"][0]) if details["loc"] else "settings"
    message = str(details["msg"]).removeprefix("Value error, ")
    description = _description(kind, name) if name in kind.model_fields else ""
    return f"ERROR: {name.upper()} has a value that cannot be used: {message}. It is: {description}."


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return re.sub(r"//[^/@]*@", "//", str(value))


if __name__ == "__main__":
    main()
