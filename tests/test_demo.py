"""The whole way, with nothing replaced but the weather service: `chat-agent demo`, the real offline model, real MCP."""

import pytest

from tests.support.agent_server import AgentServer
from tests.support.command import Serving, serving
from tests.support.open_meteo import OpenMeteo

pytestmark = pytest.mark.xdist_group("the offline model")  # which takes a core and two gigabytes

MODEL = "qwen2.5-coder-1.5b"


def ask(server: AgentServer, question: str, session: str) -> tuple[str, int]:
    """Ask through the openai package, streamed; return the answer and how many tokens the model read for it."""
    with server.client(session=session) as client:
        *chunks, last = client.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": question}],
            stream=True,
            stream_options={"include_usage": True},
            timeout=100,
        )
    assert last.usage is not None
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks), last.usage.prompt_tokens


@pytest.mark.timeout(900)
def test_the_demo_answers_with_the_weather(open_meteo: OpenMeteo, open_meteo_url: str) -> None:
    settings = {"OPEN_METEO_GEOCODING_URL": open_meteo_url, "OPEN_METEO_FORECAST_URL": open_meteo_url}
    with serving("demo", **settings) as (command, server):
        answer, _ = ask(server, "서울 날씨 알려줘", session="weather")
        facts = ("서울", "5.3 °C", "약한 비", "체감 2.1 °C", "내일은 맑음", "모레는 눈")
        assert all(fact in answer for fact in facts), answer
        assert len(open_meteo.forecasts) == 1
        says_where_everything_is(command, server)
        with server.client() as client:
            assert [model.id for model in client.models.list()] == [MODEL], "and not the path of its file"
    assert "Traceback" not in command.output


@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_the_demo_speaks_english_and_remembers(open_meteo: OpenMeteo, open_meteo_url: str) -> None:
    settings = {"OPEN_METEO_GEOCODING_URL": open_meteo_url, "OPEN_METEO_FORECAST_URL": open_meteo_url}
    with serving("demo", **settings) as (_, server):
        answer, _ = ask(server, "What is the weather in Seoul?", session="weather")
        assert all(fact in answer for fact in ("Seoul", "5.3 °C", "light rain")), answer
        answer, read = ask(server, "hello", session="greeting")
        assert answer
        assert len(open_meteo.forecasts) == 1, "a greeting needs no tool"
    with serving("demo", **settings) as (command, server):
        _, read_again = ask(server, "And again, hello!", session="greeting")
        assert read_again > read, "the session is still there"
    assert "Traceback" not in command.output


def says_where_everything_is(command: Serving, server: AgentServer) -> None:
    """The demo shows its addresses and a command to paste."""
    for place in ("/v1", "/docs", "/agent/playground/"):
        assert server.url + place in command.output
    assert f"curl -N {server.url}/v1/chat/completions" in command.output
