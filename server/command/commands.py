"""What the command does: serve, demo, chat, mcp, backup, migrate."""

import argparse
import asyncio
import logging
import sys
import threading
from collections.abc import Mapping, Sequence
from importlib import import_module
from math import inf
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from graph.offline.process import EmbeddedModel, EmbeddedModelError
from graph.offline.settings import EMBEDDED, answered_by
from server import __version__
from server.command import flags
from server.command.address import AddressError, require_free_address
from server.command.imports import light_imports
from server.command.mistakes import misspelt, unusable
from server.command.screens import address, banner, doors, invitation, tools_open_to_all
from server.command.signals import end_in_order_on_hangup
from server.settings import ServerSettings
from tools.addresses import is_loopback
from tools.bundled.settings import ToolSettings
from tools.environment import EnvironmentSettings

if TYPE_CHECKING:
    from fastapi import FastAPI

log = logging.getLogger("server")

Settings = TypeVar("Settings", bound=EnvironmentSettings)


class CommandError(Exception):
    """The command cannot go on; the message is for the person at the terminal."""


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its status."""
    options = _parser().parse_args(arguments)
    end_in_order_on_hangup()
    try:
        return options.run(options) or 0
    except (CommandError, AddressError) as error:
        print(error, file=sys.stderr)
        return 1


def serve(options: argparse.Namespace) -> None:
    """Serve the agent on the configured model."""
    settings = load_settings(ServerSettings, flags.given(options))
    _warn_of_misspelt_names()
    require_free_address(settings.api_host, settings.api_port, of="API")
    print(banner(settings), flush=True)
    _run_server(settings, when_ready=_say_where)


def demo(options: argparse.Namespace) -> None:
    """Serve the agent on the embedded model; nothing needs to be configured."""
    settings = load_settings(ServerSettings, flags.given(options), EMBEDDED)
    _warn_of_misspelt_names()
    require_free_address(settings.api_host, settings.api_port, of="API")
    try:
        from graph.offline.weights import WeightsError, find_weights
    except ModuleNotFoundError as error:
        raise CommandError(f"The demo needs its extra packages ({error.name}); run `make setup`.") from error
    # Imports that take two seconds, while the model is checked and loaded.
    threading.Thread(target=import_module, args=["server.command.process"], daemon=True).start()
    try:
        weights = find_weights(settings.embedded_model)
        print("Starting the embedded model …", flush=True)
        with EmbeddedModel(weights) as model:
            _run_server(answered_by(model, settings), when_ready=_welcome)
    except (WeightsError, EmbeddedModelError) as error:
        raise CommandError(f"ERROR: {error}") from error


def chat(options: argparse.Namespace) -> int:
    """Talk in this terminal to a server that runs."""
    settings = load_settings(ServerSettings, {}, EMBEDDED)  # the running server has the model
    from server.command.chat import talk

    keys = [] if options.url else [key.get_secret_value() for key in settings.api_keys]  # another server has other keys
    return talk(
        url=options.url or address(settings),
        key=options.key or next(iter(keys), None),
        model=options.model,
        session=options.session,
        question=options.question,
    )


def mcp(options: argparse.Namespace) -> None:
    """Serve the bundled tools to any MCP client."""
    settings = load_settings(ToolSettings, flags.given(options))
    if options.stdio:
        from tools.bundled.server import main as serve_stdio

        serve_stdio()
        return
    _warn_of_misspelt_names()
    require_free_address(settings.mcp_host, settings.mcp_port, of="MCP")
    from tools.bundled.server import build_server

    if not is_loopback(settings.mcp_host):
        print(tools_open_to_all(settings.mcp_host), file=sys.stderr)
    print(f"MCP server on http://{settings.mcp_host}:{settings.mcp_port}/mcp (streamable HTTP)", flush=True)
    build_server(settings).run("streamable-http")


def backup(options: argparse.Namespace) -> None:
    """Copy the database to a file, also while a server uses it."""
    settings = load_settings(ServerSettings, flags.given(options), EMBEDDED)  # no model is needed for that
    from graph.storage.opening import sqlite_path
    from server.command.backup import BackupError, back_up

    if not (path := sqlite_path(settings.checkpoint_url)):
        raise CommandError("ERROR: Only a SQLite file is copied, and memory:// has none; for PostgreSQL use pg_dump.")
    try:
        print(back_up(path, options.file))
    except BackupError as error:
        raise CommandError(f"ERROR: {error}") from error


def migrate(options: argparse.Namespace) -> int:
    """Copy all sessions from one database to another."""
    from graph.storage.database import DatabaseUnavailable
    from graph.storage.saver import CheckpointUrlError
    from server.command.migrate import migrate as copy_sessions

    try:
        return asyncio.run(copy_sessions(options.source, options.target, is_dry_run=options.dry_run))
    except (CheckpointUrlError, DatabaseUnavailable) as error:
        raise CommandError(f"ERROR: {error}") from error


def load_settings(
    kind: type[Settings], from_flags: Mapping[str, Any] | None = None, fixed: Mapping[str, Any] | None = None
) -> Settings:
    """Read the settings from flags, the environment and `.env`; fixed ones override all three.

    Raises:
        CommandError: some are missing or wrong; the message names them.
    """
    from_flags = from_flags or {}
    try:
        return kind(**{**from_flags, **(fixed or {})})
    except ValidationError as error:
        raise CommandError(unusable(kind, error.errors(), from_flags)) from error
    except UnicodeDecodeError as error:
        raise CommandError("ERROR: .env is not UTF-8; save it in that encoding.") from error
    except OSError as error:
        raise CommandError(f"ERROR: .env cannot be read: {error.strerror}.") from error


def _warn_of_misspelt_names() -> None:
    for sentence in misspelt():
        print(f"WARNING: {sentence}", file=sys.stderr)


def _run_server(settings: ServerSettings, **options: Any) -> None:
    with light_imports():
        from graph.brought import AgentsError
        from graph.storage.saver import CheckpointUrlError
        from server.command.process import run_server, tune
        from server.http.key_file import KeysError
        from tools.mcp.config import McpConfigError

    tune()
    try:
        run_server(settings, **options)
    except (AgentsError, CheckpointUrlError, KeysError, McpConfigError) as error:
        raise CommandError(f"ERROR: {error}") from error


async def _say_where(_: "FastAPI", settings: ServerSettings) -> None:
    print(doors(settings, _program()), flush=True)


async def _welcome(app: "FastAPI", settings: ServerSettings) -> None:
    """Let the model read its prompt and tools once, which takes long and is cached, then say where everything is."""
    from langchain_core.messages import HumanMessage

    from graph.event_queue import EventQueue
    from graph.state import OUR_AGENT, TurnContext
    from server.errors import AgentError
    from server.http.foreign_errors import as_api_error

    print("Letting the model read what tools it has …", flush=True)
    once = TurnContext(parameters={"max_completion_tokens": 1})
    try:
        await app.state.sessions.assembly.agents[OUR_AGENT].run([HumanMessage("hello")], once, EventQueue(ahead=inf))
    except Exception as error:
        answer = as_api_error(error)
        defect = isinstance(answer, AgentError)
        log.warning("The embedded model did not answer: %s", answer.message, exc_info=defect)
    print(invitation(settings, _program()), flush=True)


def _program() -> str:
    """Return the command as it was called, for use in messages."""
    return sys.argv[0] if sys.argv[0].endswith("chat-agent") else "chat-agent"


def _parser() -> argparse.ArgumentParser:
    settings_list = f"settings, from the environment or .env; a flag wins over both:\n{flags.settings_list()}"
    shape: dict[str, Any] = {"epilog": settings_list, "formatter_class": argparse.RawDescriptionHelpFormatter}
    parser = argparse.ArgumentParser(
        prog="chat-agent",
        description="An agent with MCP tools and durable sessions, behind an OpenAI-compatible API.",
        **shape,
    )
    parser.add_argument("--version", action="version", version=f"chat-agent {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in (serve, demo, chat, mcp, backup, migrate):
        added = commands.add_parser(command.__name__, help=command.__doc__, description=command.__doc__, **shape)
        added.set_defaults(run=command)
        flags.add_flags(added, command.__name__)
    return parser
