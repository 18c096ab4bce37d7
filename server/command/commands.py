"""The `chat-agent` command: serve, demo, mcp."""

import argparse
import gc
import logging
import socket
import sys
import threading
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError
from pydantic_settings import BaseSettings

from graph.embedded import EmbeddedModel, EmbeddedModelError
from graph.embedded_settings import EMBEDDED, answered_by
from server import __version__
from server.screens import banner, doors, invitation, settings_list, unusable
from server.settings import ServerSettings
from server.signals import end_in_order_on_hangup
from tools.settings import ToolSettings

if TYPE_CHECKING:
    from fastapi import FastAPI

log = logging.getLogger("server")

Settings = TypeVar("Settings", bound=BaseSettings)


class CommandError(Exception):
    """The command cannot go on; the message is for the person at the terminal."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and exit with its status."""
    options = _parser().parse_args(arguments)
    end_in_order_on_hangup()
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
    _run_server(settings, when_ready=_say_where)


def demo(_: argparse.Namespace) -> None:
    """Serve the agent on the embedded model; nothing needs to be configured."""
    settings = load_settings(ServerSettings, **EMBEDDED)
    require_free_port(settings.api_host, settings.api_port, "API_PORT")
    try:
        from graph.weights import WeightsError, find_weights
    except ModuleNotFoundError as error:
        raise CommandError(f"The demo needs its extra packages ({error.name}); run `make setup`.") from error
    # Two seconds of imports, in which the model can be checked and loaded.
    threading.Thread(target=import_module, args=["server.process"], daemon=True).start()
    try:
        weights = find_weights(settings.embedded_model)
        print("Starting the embedded model …", flush=True)
        with EmbeddedModel(weights) as model:
            _run_server(answered_by(model, settings), when_ready=_welcome)
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
        raise CommandError(unusable(kind, error.errors())) from error
    except UnicodeDecodeError as error:
        raise CommandError("ERROR: .env is not UTF-8; save it in that encoding.") from error


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


def _run_server(settings: ServerSettings, **options: Any) -> None:
    # What is imported stays: looking for garbage among it would take a tenth of the start, and of every later look.
    gc.disable()
    from graph.checkpoints import CheckpointUrlError
    from server.process import run_server
    from tools.mcp_config import McpConfigError

    gc.freeze()
    gc.enable()
    try:
        run_server(settings, **options)
    except (CheckpointUrlError, McpConfigError) as error:
        raise CommandError(f"ERROR: {error}") from error


async def _say_where(_: "FastAPI", settings: ServerSettings) -> None:
    print(doors(settings), flush=True)


async def _welcome(app: "FastAPI", settings: ServerSettings) -> None:
    """Let the model read its prompt and tools once, which takes long and is kept, then say where everything is."""
    from langchain_core.messages import HumanMessage

    from graph.state import TurnContext
    from server.errors import AgentError
    from server.foreign_errors import as_api_error
    from server.turns import run_unstored

    print("Letting the model read what tools it has …", flush=True)
    once = TurnContext(parameters={"max_completion_tokens": 1})
    try:
        async for _ in run_unstored(app.state.services.assembly, [HumanMessage("hello")], once):
            pass
    except Exception as error:
        answer = as_api_error(error)
        defect = isinstance(answer, AgentError)
        log.warning("The embedded model did not answer: %s", answer.message, exc_info=defect)
    print(invitation(settings), flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="chat-agent",
        description="An agent with MCP tools and durable sessions, behind an OpenAI-compatible API.",
        epilog=f"settings, from the environment or .env:\n{settings_list()}",
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


if __name__ == "__main__":
    main()
