"""The examples, run as a user runs them, against a live server."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.agent_server import AgentServer
from tests.upstream import Answer, Call, Json, Upstream

EXAMPLES = Path(__file__).parents[1] / "examples"


def model(request: Json) -> Answer:
    """Say what a model with tools would: call the tool for the weather, know the name that was told."""
    asked = request["messages"][-1]
    if asked["role"] == "tool":
        return Answer(["In Seoul: ", asked["content"]])
    if "날씨" in asked["content"]:
        return Answer(calls=[Call("get_weather", '{"city": "서울"}')])
    told = any("Mina" in str(message["content"]) for message in request["messages"][:-1])
    return Answer(["Your name is Mina." if told else "Nice to meet you."])


@pytest.mark.parametrize("command", [[sys.executable, "api_client_example.py"], ["bash", "api_client_curl.sh"]])
def test_the_example_chats_streams_uses_a_tool_goes_on_and_resets(
    weather_server: AgentServer, upstream: Upstream, command: list[str]
) -> None:
    upstream.otherwise = model
    environment = os.environ | {"BASE_URL": weather_server.url}
    ended = subprocess.run(
        command, cwd=EXAMPLES, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    first, second, tool, reset = ended.stdout.split("\n# ")
    assert "Nice to meet you." in first
    assert "Your name is Mina." in second
    assert "5.3 °C" in tool
    assert "session" in reset
    assert ended.stderr == ""
