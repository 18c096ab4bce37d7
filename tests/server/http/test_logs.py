"""The log of a server at work."""

import json
import logging
import re
import sys
from hashlib import sha256
from typing import Any

import httpx
import pytest

from server.http.logs import JsonLine, Line
from tests.support.agent_server import HELLO, MODEL
from tests.support.command import serving
from tests.support.interrupts import pressed, settings
from tests.support.terminal import at_terminal, chat_agent
from tests.support.upstream import Answer, Call, Upstream


def test_f9_a_request_is_one_line_with_all_that_is_needed_and_nothing_that_is_not(
    upstream: Upstream, upstream_url: str
) -> None:
    given = settings(upstream_url) | {"USE_MCP_TOOLS": "false", "API_KEYS": "secret-key"}
    url = f"http://127.0.0.1:{given['API_PORT']}"
    body = {"model": MODEL, "messages": [{"role": "user", "content": "private words"}]}
    headers = {"Authorization": "Bearer secret-key", "X-Session-ID": "mina"}
    upstream.script(Answer(["private answer"]), Answer(status=400, error="No."))
    with at_terminal(chat_agent("serve"), **given) as terminal:
        terminal.until("chat-agent is ready")
        answers = [
            httpx.post(f"{url}/v1/chat/completions?token=secret-query", json=body, headers=headers, timeout=30),
            httpx.post(f"{url}/v1/chat/completions", json=body | {"stream": True}, headers=headers, timeout=30),
            httpx.get(f"{url}/v1/models%0Aforged"),
        ]
        for answer in answers:
            terminal.until(answer.headers["x-request-id"])
        assert pressed(terminal, "") == 0
    stamp = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
    ids = [answer.headers["x-request-id"] for answer in answers]
    done, reason, failed, refused = [line for line in terminal.text.splitlines() if any(name in line for name in ids)]
    key = f"key key-{sha256(b'secret-key').hexdigest()[:8]}"
    took = r"\d+\.\d{3} s"
    said = rf"model {MODEL}, first token {took}, tokens 10\+5"
    line = rf"{stamp} INFO: +POST /v1/chat/completions 200 {took} session mina, {key}, {said} {ids[0]}"
    assert re.fullmatch(line, done)
    assert re.fullmatch(
        rf"{stamp} INFO: +POST /v1/chat/completions 400 {took} session mina, {key}, model {MODEL} {ids[1]}", failed
    )
    assert re.fullmatch(rf"{stamp} INFO: +GET /v1/models%0Aforged 401 .* session [\w-]+ {ids[2]}", refused)
    assert re.fullmatch(rf"{stamp} WARNING: +run of .* failed: .* {ids[1]}", reason), "it is in what the run says too"
    for word in ("private", "secret"):
        assert word not in terminal.text
    for line in terminal.text.splitlines():
        if re.search(r"\b(INFO|WARNING|ERROR):", line):
            assert re.match(rf"(\^C)?{stamp} ", line), line


def json_lines(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines() if line.startswith("{")]


def test_away_from_a_terminal_the_lines_are_json(upstream: Upstream, upstream_url: str, open_meteo_url: str) -> None:
    given = {"OLLAMA_MODEL": MODEL, "OLLAMA_BASE_URL": upstream_url, "API_KEYS": "secret-key"}
    weather = {"OPEN_METEO_GEOCODING_URL": open_meteo_url, "OPEN_METEO_FORECAST_URL": open_meteo_url}
    with serving("serve", **given, **weather) as (command, server):
        for stream in (True, False):
            upstream.script(Answer(calls=[Call("get_weather", '{"city": "서울"}')]), Answer(["5 °C"]))
            body = {"model": MODEL, "messages": [HELLO], "stream": stream}
            headers = {"Authorization": "Bearer secret-key", "X-Session-ID": f"mina-{stream}"}
            answered = server.post(body, headers=headers)
            assert answered.status_code == 200
        assert command.end() == 0
    lines = json_lines(command.output)
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", line["time"]) for line in lines)
    done = [line for line in lines if line.get("path") == "/v1/chat/completions"]
    assert done[-1]["request_id"] == answered.headers["x-request-id"]
    for line, stream in zip(done, (True, False), strict=True):
        expected = {"method": "POST", "status": 200, "session": f"mina-{stream}", "model": MODEL}
        assert line == {**line, **expected, "input_tokens": 20, "output_tokens": 10}
        assert 0 < line["first_token_seconds"] <= line["seconds"]
        [tool] = line["tools"]
        assert (tool["name"], tool["failed"], tool["seconds"] > 0) == ("get_weather", False, True)
    assert "secret-key" not in command.output


FORGERIES = ["x\n2026-11-27 12:00:00 INFO:     forged", "x\r\x1b[2J\x1b[1A", "x\u2028y\x85z", "\u202egnorw", "\ud800"]


@pytest.mark.parametrize("text", FORGERIES)
def test_what_others_say_cannot_look_like_a_line_of_ours(text: str) -> None:
    try:
        raise ValueError(text)
    except ValueError:
        record = logging.LogRecord("server", logging.ERROR, "", 0, "It said %s", (text,), sys.exc_info())
    lines = Line("%(asctime)s %(levelprefix)s %(message)s", use_colors=False).format(record).split("\n")
    assert len([line for line in lines if not line.startswith("    ")]) == 1
    assert all(line.isprintable() for line in lines)
    line = JsonLine().format(record)
    assert len(line.splitlines()) == 1
    told = json.loads(line)
    assert told["message"] == f"It said {text}"
    assert told["exception"].endswith(f"ValueError: {text}")


def test_an_endpoint_s_words_stay_in_their_line(upstream: Upstream, upstream_url: str) -> None:
    upstream.otherwise = Answer(status=400, error="no\n2026-11-27 12:00:00 INFO:     forged \x1b[2J")
    given = settings(upstream_url) | {"USE_MCP_TOOLS": "false"}
    with at_terminal(chat_agent("serve"), **given) as terminal:
        terminal.until("chat-agent is ready")
        answer = httpx.post(
            f"http://127.0.0.1:{given['API_PORT']}/v1/chat/completions", json={"model": MODEL, "messages": [HELLO]}
        )
        terminal.until(answer.headers["x-request-id"])
        assert pressed(terminal, "") == 0
    assert not any(line.startswith("2026-11-27 12:00:00") for line in terminal.text.splitlines())
    assert "\x1b[2J" not in terminal.text
