"""The examples, run as a user runs them, against a live server."""

import os
import subprocess
import sys

import pytest

from tests.support.agent_server import AgentServer, agent_server
from tests.support.loopback import free_port
from tests.support.project import ROOT
from tests.support.upstream import Answer, Call, Json, Upstream

EXAMPLES = ROOT / "examples"
COMMANDS = [[sys.executable, "api_client_example.py"], ["bash", "api_client_curl.sh"]]


def run(command: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    """Run an example to its end."""
    return subprocess.run(
        command, cwd=EXAMPLES, env=os.environ | environment, capture_output=True, text=True, timeout=60, check=False
    )


def model(request: Json) -> Answer:
    """Say what a model with tools would: call the tool for the weather, know the name that was told."""
    asked = request["messages"][-1]
    if asked["role"] == "tool":
        return Answer(["In Seoul: ", asked["content"]])
    if "날씨" in asked["content"]:
        return Answer(calls=[Call("get_weather", '{"city": "서울"}')])
    told = any("Mina" in str(message["content"]) for message in request["messages"][:-1])
    return Answer(["Your name is Mina." if told else "Nice to meet you."])


@pytest.mark.parametrize("command", COMMANDS)
def test_the_example_chats_streams_uses_a_tool_goes_on_and_resets(
    weather_server: AgentServer, upstream: Upstream, command: list[str]
) -> None:
    upstream.otherwise = model
    ended = run(command, BASE_URL=weather_server.url)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    first, second, tool, reset = ended.stdout.split("\n# ")
    assert "Nice to meet you." in first
    assert "Your name is Mina." in second
    assert "5.3 °C" in tool
    assert "choices" not in first + second + tool, "the text, not the JSON around it"
    assert "session" in reset
    assert ended.stderr == ""


@pytest.mark.parametrize("command", COMMANDS)
def test_f12_a_server_that_is_not_there_is_one_sentence(command: list[str]) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    ended = run(command, BASE_URL=url)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == f"No server answers at {url}. Start one with `make demo`, or set BASE_URL to where it is.\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_f12_a_key_that_is_missing_is_said(upstream_url: str, command: list[str]) -> None:
    with agent_server(ollama_base_url=upstream_url, use_mcp_tools=False, api_keys=("right",)) as server:
        ended = run(command, BASE_URL=server.url)
    assert ended.returncode == 1
    assert "Incorrect API key provided." in ended.stderr
    assert ended.stderr.endswith("Set API_KEY to one of the server's keys.\n")
    assert "Traceback" not in ended.stderr


def test_f12_a_python_without_the_packages_says_which_to_take() -> None:
    ended = run([sys.executable, "-S", "api_client_example.py"])  # as the system's python: no packages at all
    assert (ended.returncode, ended.stdout) == (1, "")
    assert f"The package httpx is missing in {sys.executable}." in ended.stderr
    assert ".venv/bin/python examples/api_client_example.py" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_f12_how_to_run_an_example_is_said_in_it_and_in_the_readmes(command: list[str]) -> None:
    name = f"examples/{command[-1]}"
    how = f".venv/bin/python {name}" if name.endswith(".py") else f"bash {name}"
    for place in (EXAMPLES / command[-1], EXAMPLES.parent / "README.md", EXAMPLES.parent / "README.ko.md"):
        assert how in place.read_text()
