"""LangGraph Studio's server, running."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

from langgraph_sdk import get_sync_client
from langgraph_sdk.client import SyncLangGraphClient

from tests.support.agent_server import AgentServer
from tests.support.command import Serving, serving
from tests.support.loopback import free_port
from tests.support.project import ROOT
from tests.support.upstream import Json

CONFIG = ROOT / "langgraph.json"


COMMAND = ("-m", "langgraph_cli")


QUIET = {"LANGGRAPH_CLI_NO_ANALYTICS": "1", "LANGGRAPH_NO_VERSION_CHECK": "1", "LANGSMITH_TRACING": "false"}


GRAPH = "chat-agent"


@dataclass(frozen=True)
class Studio:
    """A running `langgraph dev`: its client, our server in it, and the command."""

    client: SyncLangGraphClient
    server: AgentServer
    command: Serving

    def turn(self, thread: str, text: str | None, **options: Any) -> list[str]:
        """Run a turn and return what its thread then says."""
        given = None if text is None else question(text)
        return texts(cast(Json, self.client.runs.wait(thread, GRAPH, input=given, **options)))

    def state(self, thread: str) -> list[str]:
        """Return what a thread says."""
        return texts(cast(Json, self.client.threads.get_state(thread)["values"]))

    def threads(self) -> dict[str, Any]:
        """Return the metadata of all threads that Studio lists, by their ids."""
        return {thread["thread_id"]: thread["metadata"] for thread in self.client.threads.search(limit=100)}


@contextmanager
def running(**settings: str) -> Iterator[Studio]:
    port = free_port()
    arguments = ["dev", "--config", str(CONFIG), "--no-browser", "--no-reload", "--port", str(port)]
    with serving(*arguments, program=COMMAND, API_PORT=str(port), **QUIET, **settings) as (command, server):
        with get_sync_client(url=server.url) as client:
            yield Studio(client, server, command)


def question(text: str) -> Json:
    return {"messages": [{"role": "user", "content": text}]}


def texts(values: Mapping[str, Sequence[Json]]) -> list[str]:
    return [message["content"] for message in values["messages"]]
