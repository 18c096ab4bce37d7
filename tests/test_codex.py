"""Codex, which speaks nothing but the Responses API, works on this server: an answer, tools of both kinds, an error."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.support.agent_server import MODEL, AgentServer
from tests.support.environments import NODE_MODULES
from tests.support.upstream import Answer, Call, Json, Upstream

PROGRAM = "vendor/*/bin/codex"
CONFIG = """
model = "{model}"
model_provider = "agent"
[model_providers.agent]
name = "agent"
base_url = "{url}/v1"
wire_api = "responses"
request_max_retries = 0
stream_max_retries = 0
"""


@pytest.fixture
def codex() -> Path:
    """The program, which is a package for each kind of machine."""
    programs = [*(NODE_MODULES / "@openai").glob(f"codex-*/{PROGRAM}")]
    if not programs:
        pytest.skip("Codex is not installed: run `make clients`")
    return programs[0]


def told(codex: Path, server: AgentServer, folder: Path, question: str) -> list[Json]:
    """What Codex tells of one question, in a folder of its own."""
    home, work = folder / "home", folder / "work"
    home.mkdir(exist_ok=True)
    work.mkdir(exist_ok=True)
    (home / "config.toml").write_text(CONFIG.format(model=MODEL, url=server.url))
    ended = subprocess.run(
        [codex, "exec", "--json", "--skip-git-repo-check", "--sandbox", "danger-full-access", question],
        cwd=work,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "CODEX_HOME": str(home),
            "HTTPS_PROXY": "http://127.0.0.1:9",
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return [json.loads(line) for line in ended.stdout.splitlines()]


def said(lines: list[Json]) -> list[str]:
    """The messages among what it tells."""
    items = [line["item"] for line in lines if line["type"] == "item.completed"]
    return [item["text"] for item in items if item["type"] == "agent_message"]


def test_codex_works(weather_server: AgentServer, upstream: Upstream, tmp_path: Path, codex: Path) -> None:
    upstream.script(Answer(["안녕하세요, ", "Mina."]))
    lines = told(codex, weather_server, tmp_path, "hello")
    assert said(lines) == ["안녕하세요, Mina."]
    assert lines[-1]["type"] == "turn.completed"
    assert lines[-1]["usage"]["input_tokens"] == 10

    upstream.script(
        Answer(["Let me look."], calls=[Call("get_weather", '{"city": "Seoul"}')]),
        Answer(calls=[Call("exec_command", '{"cmd": "echo the-client-ran-it"}')]),
        lambda request: Answer([request["messages"][-1]["content"]]),
    )
    lines = told(codex, weather_server, tmp_path, "look and run")
    assert said(lines)[0] == "Let me look."
    assert "the-client-ran-it" in said(lines)[-1]
    calling, result = upstream.last["messages"][-2:]
    assert (calling["content"], calling["tool_calls"][0]["function"]["name"]) == ("Let me look.", "exec_command")
    assert result["tool_call_id"] == calling["tool_calls"][0]["id"]

    upstream.script(Answer(["Half an "], finish_reason=""))
    lines = told(codex, weather_server, tmp_path, "break off")
    assert lines[-1]["type"] == "turn.failed"
    assert "ended in the middle" in lines[-1]["error"]["message"]
