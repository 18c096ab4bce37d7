"""The log of a server at work."""

import re

import httpx

from tests.support.agent_server import MODEL
from tests.support.interrupts import pressed, settings
from tests.support.terminal import at_terminal, chat_agent
from tests.support.upstream import Answer, Upstream


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
    assert re.fullmatch(rf"{stamp} INFO: +POST /v1/chat/completions 200 \d+\.\d{{3}} s session mina {ids[0]}", done)
    assert re.fullmatch(rf"{stamp} INFO: +POST /v1/chat/completions 400 \d+\.\d{{3}} s session mina {ids[1]}", failed)
    assert re.fullmatch(rf"{stamp} INFO: +GET /v1/models%0Aforged 401 .* session [\w-]+ {ids[2]}", refused)
    assert re.fullmatch(rf"{stamp} WARNING: +run of .* failed: .* {ids[1]}", reason), "it is in what the run says too"
    for word in ("private", "secret"):
        assert word not in terminal.text
    for line in terminal.text.splitlines():
        if re.search(r"\b(INFO|WARNING|ERROR):", line):
            assert re.match(rf"(\^C)?{stamp} ", line), line
