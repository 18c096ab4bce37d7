"""No secret is in anything that a server says: its answers, frames, metrics and traces, and its log at DEBUG too."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
from langchain_core.language_models import BaseChatModel
from langgraph.graph import START, MessagesState, StateGraph
from starlette.requests import Request
from starlette.responses import Response

from tests.support.agent_server import HELLO, MODEL, AgentServer
from tests.support.collector import Collector
from tests.support.command import serving
from tests.support.loopback import free_port, served
from tests.support.upstream import Answer, Call, Raw, Reply, Upstream
from tests.support.waiting import until
from tests.tools.mcp.raw_http import Json, RawHttp, answer
from tests.tools.mcp.raw_server import GREETING, tool

CANARY = "canary-4c1e"
OURS, OF_FILE, OF_MODEL, OF_METRICS = (f"{CANARY}-{name}" for name in ("key", "file", "model", "metrics"))
OF_MCP, OF_ADDRESS, OF_CHILD, OF_COLLECTOR = (f"{CANARY}-{name}" for name in ("mcp", "address", "child", "otel"))
WRONG, IN_QUERY = f"{CANARY}-wrong", f"{CANARY}-query"
# The command, in a process in which every logger of every library writes all that it has to say.
AT_DEBUG = """
import logging, logging.config, sys

class AtDebug(logging.config.DictConfigurator):
    def configure(self):
        for logger in self.config["loggers"].values():
            logger.update(level="DEBUG", propagate=not logger.get("handlers"))
        super().configure()

logging.basicConfig(level=logging.DEBUG)
logging.config.dictConfigClass = AtDebug
sys.argv[1:] = ["serve"]
from server.__main__ import main
main()
"""
ASKING: Mapping[str, Any] = {"model": MODEL, "messages": [HELLO]}
MODELS = (MODEL, "failing")
KEY = {"Authorization": f"Bearer {OURS}"}
PATH = "/v1/chat/completions"


def failing(model: BaseChatModel) -> StateGraph[Any]:
    """Return a graph that somebody brings, which tells of a failure as a defect of its own."""

    async def ask(state: MessagesState) -> dict[str, Any]:
        try:
            return {"messages": [await model.ainvoke(state["messages"])]}
        except Exception as error:
            raise RuntimeError("The model has failed.") from error

    return StateGraph(MessagesState).add_node(ask).add_edge(START, "ask")


async def look(message: Json, _: Request) -> Response:
    """Fail in words that tell what the server was given."""
    words = f"The service refused the token {OF_MCP}."
    match message["params"]["arguments"].get("how"):
        case "result":
            return answer(message, {"content": [{"type": "text", "text": words}], "isError": True})
        case "error":
            error = {"code": -32000, "message": words}
            return Response(json.dumps({"jsonrpc": "2.0", "id": message["id"], "error": error}), 200)
        case "status":
            return Response(words, 500)
        case "long":
            text = f"{'x' * 31_980} {OF_MCP} {'y' * 60_000}"
            return answer(message, {"content": [{"type": "text", "text": text}], "isError": True})
    return answer(message, {"content": [{"type": "text", "text": "seen"}]})


def calling(how: str) -> Callable[[Json], Answer | Raw]:
    """Call the tool, and answer when its result is there."""

    def reply(request: Json) -> Answer | Raw:
        if request["messages"][-1]["role"] == "tool" or "tools" not in request:
            return Answer(["done"])
        return Answer(calls=[Call(request["tools"][0]["function"]["name"], json.dumps({"how": how}))])

    return reply


def model_answers() -> Iterator[tuple[str, Reply]]:
    """Yield what the model endpoint does in a turn, by names."""
    for how in ("well", "result", "error", "status", "long"):
        yield f"tool {how}", calling(how)
    words = f"What {OF_MODEL} wants cannot be had."
    yield "at the end of what is told", Answer(status=400, error=f"{'x ' * 245}{OF_MODEL} {'y ' * 200}")
    for status in (400, 401, 404, 429, 500):
        yield f"status {status}", Answer(status=status, error=words)
    yield "a page", Raw([f"<html>{OF_MODEL}</html>"], media_type="text/html")
    yield "in the stream", Raw([f'data: {{"error": {{"message": "{words}"}}}}\n\n'])


def doors(server: AgentServer) -> Iterator[httpx.Response]:
    """Ask everything but turns."""
    paths = ("/", "/health", "/ready", "/metrics", "/openapi.json", "/docs", "/login", "/v1/models", "/v1/sessions")
    for headers in ({}, KEY, {"Authorization": f"Bearer {WRONG}"}, {"api-key": WRONG}, {"Cookie": f"a={WRONG}"}):
        for path in paths:
            yield httpx.get(server.url + path, headers=headers, params={"api_key": IN_QUERY}, timeout=30)
    yield httpx.get(f"{server.url}/metrics", headers={"Authorization": f"Bearer {OF_METRICS}"})
    for key in (OURS, WRONG):
        yield httpx.post(f"{server.url}/login", data={"key": key})
    yield httpx.post(server.url + PATH, json={**ASKING, "user": 1}, headers=KEY)
    yield httpx.post(server.url + PATH, content=f'{{"model": "{WRONG}', headers=KEY)
    yield httpx.post(f"{server.url}/agent/invoke", json={"input": {"messages": [HELLO]}}, headers=KEY, timeout=30)


def is_ready(server: AgentServer) -> bool:
    return bool(httpx.get(f"{server.url}/ready", headers=KEY).json()["mcp"]["remote"]["state"] == "ready")


def test_no_secret_is_said(upstream: Upstream, upstream_url: str, tmp_path: Path) -> None:
    collector, raw = Collector(), RawHttp(tool("look"), call=look)
    keys, config, table = tmp_path / "keys.toml", tmp_path / "mcp.json", tmp_path / "table.json"
    keys.write_text(f'[team]\nkey = "{OF_FILE}"\n')
    table.write_text(json.dumps({"initialize": {"result": GREETING}, "tools/list": {"exit": 3, "words": OF_CHILD}}))
    child = {
        "command": sys.executable,
        "args": ["-m", "tests.tools.mcp.raw_server", str(table), str(tmp_path / "log"), f"--token={OF_CHILD}"],
        "env": {"API_TOKEN": OF_CHILD},
    }
    said: list[tuple[str, httpx.Response]] = []
    with served(raw.app) as mcp, served(collector.app) as otlp:
        remote = {"url": f"{mcp}/mcp?token={OF_ADDRESS}", "headers": {"Authorization": f"Bearer {OF_MCP}"}}
        config.write_text(json.dumps({"mcpServers": {"remote": remote, "child": child}}))
        settings = {
            "OLLAMA_MODEL": MODEL,
            "OLLAMA_BASE_URL": upstream_url,
            "OLLAMA_API_KEY": OF_MODEL,
            "API_KEYS": f"mina:{OURS},sha256:{sha256(WRONG[::-1].encode()).hexdigest()}",
            "API_KEYS_FILE": str(keys),
            "METRICS_KEY": OF_METRICS,
            "MCP_CONFIG": str(config),
            "OTEL_EXPORTER_OTLP_ENDPOINT": otlp,
            "OTEL_EXPORTER_OTLP_HEADERS": f"authorization={OF_COLLECTOR}",
            "OTEL_EXPORTER_OTLP_TRACES_HEADERS": f"Authorization: Bearer {OF_COLLECTOR}",  # malformed, which is logged
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{otlp}/v1/traces?key={OF_COLLECTOR}",
            "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": f"http://127.0.0.1:{free_port()}/?key={OF_COLLECTOR}",
            "AGENTS": "tests.server.test_secrets:failing",
            "OPENAI_LOG": "debug",
        }
        with serving(program=("-c", AT_DEBUG), **settings) as (command, server):
            until(lambda: is_ready(server), within=20)
            for what, upstream.otherwise in model_answers():
                bodies = [{**ASKING, "stream": stream, "model": model} for stream in (False, True) for model in MODELS]
                said += [(what, server.post(body, headers=KEY)) for body in bodies]
            said += [(str(answered.request.url), answered) for answered in doors(server)]
        for logger in ("server", "openai", "httpcore", "urllib3", "mcp", "RuntimeError: The model has failed."):
            assert logger in command.output, "it says all that it has to say"
    for what, answered in said:
        assert CANARY[:-1] not in answered.text, what
        assert CANARY not in str(answered.headers), what
    assert CANARY[:-1] not in str(upstream.requests), "the model is told none, and no half of one"
    assert not any(CANARY.encode() in body for body in collector.bodies)
    assert "\n".join(line for line in command.output.splitlines() if CANARY in line) == ""
