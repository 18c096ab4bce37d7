"""A server whose tools a person must approve: `wipe` of an MCP server that calls it destructive."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.support.agent_server import CERTIFICATES, MODEL, AgentServer, agent_server
from tests.support.mcp_servers import noted
from tests.support.project import ROOT
from tests.support.upstream import Answer, Call, Json, Upstream

APPROVE: Json = {
    "type": "function",
    "function": {
        "name": "approve_tool_call",
        "description": "Ask the user.",
        "parameters": {"type": "object", "properties": {}},
    },
}


@dataclass(frozen=True)
class Wiper:
    """A server, the model endpoint behind it, and the calls of its tools."""

    server: AgentServer
    upstream: Upstream
    calls: Path

    @property
    def wiped(self) -> int:
        """How often `wipe` was run."""
        return noted(self.calls, "wipe")

    def wants_to_wipe(self, path: str = "/tmp/a", *, then: str = "Done.", call_id: str = "call_0") -> None:
        """Let the model call `wipe`, and answer after it."""
        wipe = Call("wipe", json.dumps({"path": path}), call_id)
        self.upstream.script(Answer(calls=[wipe]), Answer([then]))

    def chat(self, *messages: Json, session: str = "s", headers: dict[str, str] | None = None, **fields: Any) -> Json:
        """Return the answer's message to messages of chat completions."""
        body = {"model": MODEL, "messages": list(messages), **fields}
        answer = self.server.post(body, headers={"X-Session-ID": session, **(headers or {})})
        assert answer.status_code == 200, answer.text
        choice: Json = answer.json()["choices"][0]
        return {**choice["message"], "finish_reason": choice["finish_reason"]}

    def session(self, session: str = "s", path: str = "") -> Json:
        """Return what the server tells of a session."""
        told: Json = httpx.get(f"{self.server.url}/v1/sessions/{session}{path}", verify=CERTIFICATES).json()
        return told

    def approve(self, session: str = "s", **body: Any) -> httpx.Response:
        """Decide about what a session waits with."""
        url = f"{self.server.url}/v1/sessions/{session}/approve"
        return httpx.post(url, json=body, verify=CERTIFICATES, timeout=30)


def mcp_config(folder: Path) -> Path:
    """Return the file that names the MCP server, which is started as a process over stdio."""
    path = folder / "mcp.json"
    arguments = ["-m", "tests.support.mcp_servers", "stdio", str(folder / "calls")]
    server = {"command": sys.executable, "args": arguments, "cwd": str(ROOT)}
    path.write_text(json.dumps({"mcpServers": {"disk": server}}), encoding="utf-8")
    return path


@contextmanager
def wiper(upstream: Upstream, upstream_url: str, folder: Path, **settings: Any) -> Iterator[Wiper]:
    """Serve the agent with that tool."""
    config = mcp_config(folder)
    with agent_server(ollama_base_url=upstream_url, mcp_config=config, **settings) as server:
        yield Wiper(server, upstream, folder / "calls")


def says(text: str) -> Json:
    """Return a message of the user."""
    return {"role": "user", "content": text}


def answer_to(call: Json, **decision: Any) -> Json:
    """Return the result of a call of `approve_tool_call`."""
    return {"role": "tool", "tool_call_id": call["id"], "content": json.dumps(decision)}
