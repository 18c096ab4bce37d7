"""Keys in all their forms, their holders, and how often wrong ones are tried."""

import re
import signal
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.http.guesses import DELAY
from server.http.key_file import KeysError, configured_keys
from server.http.keys import Keys, load_key
from tests.support.agent_server import HELLO, MODEL, AgentServer, agent_server
from tests.support.command import serving, without_tools
from tests.support.upstream import Upstream
from tests.support.waiting import until

HASH = sha256(b"third").hexdigest()
ASKING: dict[str, Any] = {"model": MODEL, "messages": [HELLO]}


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture
def options(upstream_url: str) -> dict[str, Any]:
    return {"ollama_base_url": upstream_url, "use_mcp_tools": False}


def test_a_key_may_have_a_name_or_be_a_hash(options: dict[str, Any]) -> None:
    given = f"first,mina:second,sha256:{HASH},jun:sha256:{sha256(b'fourth').hexdigest()}"
    with agent_server(**options, api_keys=given) as server:
        statuses = {
            key: httpx.get(f"{server.url}/v1/models", headers=bearer(key)).status_code
            for key in ("first", "second", "third", "fourth", "mina:second", HASH, f"sha256:{HASH}", "fifth")
        }
    assert [key for key, status in statuses.items() if status == 200] == ["first", "second", "third", "fourth"]


def test_a_browser_logs_in_with_a_key_of_which_only_the_hash_is_known(options: dict[str, Any]) -> None:
    with agent_server(**options, api_keys=f"sha256:{HASH}") as server, httpx.Client(base_url=server.url) as browser:
        assert browser.post("/login", data={"key": "third"}).status_code == 303
        assert browser.get("/v1/models").status_code == 200


@given(st.text(min_size=1), st.text(min_size=1))
def test_exactly_the_keys_themselves_open(key: str, other: str) -> None:
    keys = Keys([load_key(f"name:sha256:{sha256(key.encode(errors='surrogatepass')).hexdigest()}")])
    if not any("\ud800" <= letter <= "\udfff" for letter in key + other):
        assert keys.of(key)
        assert bool(keys.of(other)) == (key == other)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[mina]\n", "needs a key or a sha256"),
        ("[mina]\nkey = 1\n", "needs a key or a sha256"),
        ('[mina]\nkey = "a"\nsha256 = "b"\n', "needs a key or a sha256"),
        ('[mina]\nsha256 = "b"\n', "64 hexadecimal digits"),
        ('[mina]\nkey = "secret"\nrequest_per_minute = 1\n', "and nothing else"),
        ('[mina]\nkey = "secret"\nruns_at_once = 0\n', "numbers from 1"),
        ('[mina]\nkey = "secret"\nruns_at_once = true\n', "numbers from 1"),
        ('mina = "secret"\n', "and nothing else"),
        ("[mina\n", "line 1"),
        ("", "has no keys"),
        ("# all gone\n", "has no keys"),
    ],
)
def test_a_file_of_keys_says_what_is_wrong_and_no_key(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "keys.toml").write_text(text)
    with pytest.raises(KeysError) as caught:
        configured_keys([], tmp_path / "keys.toml", {})
    assert complaint in str(caught.value)
    assert "secret" not in str(caught.value)


def test_the_file_is_read_again_on_sighup(tmp_path: Path, upstream_url: str) -> None:
    file = tmp_path / "keys.toml"
    file.write_text('[mina]\nkey = "one"\n')
    settings = without_tools(upstream_url)
    with serving("serve", **settings, API_KEYS_FILE=str(file), API_KEYS="other") as (command, server):

        def opens(key: str) -> bool:
            return httpx.get(f"{server.url}/v1/models", headers=bearer(key)).status_code == 200

        assert [opens(key) for key in ("one", "two", "other")] == [True, False, True]
        file.write_text(f'[mina]\nsha256 = "{sha256(b"two").hexdigest()}"\n')
        command.process.send_signal(signal.SIGHUP)
        until(lambda: opens("two"))
        assert not opens("one"), "a key that is gone opens nothing"
        for broken in ("[mina", ""):
            file.write_text(broken)
            command.process.send_signal(signal.SIGHUP)
            until(lambda: "The keys stay as they were." in (command.logged("error") or [""])[-1])
            assert httpx.get(f"{server.url}/v1/sessions").status_code == 401, "it never stands open"
        assert [opens(key) for key in ("one", "two", "other")] == [False, True, True]
        assert command.end() == 0
    assert '"principal": "mina"' in command.output


@pytest.fixture
def trusting(options: dict[str, Any]) -> Iterator[AgentServer]:
    """A server behind Open WebUI, whose key is trusted."""
    trusted = {"trusted_user_header": "X-OpenWebUI-User-Id", "trusted_keys": "webui"}
    with agent_server(**options, api_keys="webui:secret,mina:other", **trusted) as server:
        yield server


def test_each_user_of_a_trusted_key_has_sessions_of_their_own(trusting: AgentServer) -> None:
    def sessions(key: str, user: str | None) -> list[str]:
        headers = bearer(key) | ({"X-OpenWebUI-User-Id": user} if user else {})
        return [session["id"] for session in httpx.get(f"{trusting.url}/v1/sessions", headers=headers).json()["data"]]

    for user in ("a", "b"):
        headers = bearer("secret") | {"X-OpenWebUI-User-Id": user, "X-Session-ID": f"of-{user}"}
        assert trusting.post(ASKING, headers=headers).status_code == 200
    assert [sessions("secret", user) for user in ("a", "b", None)] == [["of-a"], ["of-b"], []]
    assert sessions("other", "a") == [], "a key that is not trusted names no users"
    trusting.post(ASKING, headers=bearer("other") | {"X-OpenWebUI-User-Id": "a", "X-Session-ID": "own"})
    assert (sessions("other", None), sessions("secret", "a")) == (["own"], ["of-a"])


def test_wrong_keys_are_slowed_down_and_right_ones_are_not(
    options: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    with agent_server(**options, api_keys="right") as server, httpx.Client(base_url=server.url) as client:

        def seconds(key: str) -> float:
            began = time.monotonic()
            client.get("/v1/models", headers=bearer(key))
            return time.monotonic() - began

        assert max(seconds(f"guess-{at}") for at in range(10)) < DELAY
        assert min(seconds(f"guess-{at}") for at in range(3)) >= DELAY
        assert seconds("right") < DELAY
        assert client.get("/v1/models").status_code == 401, "none is no guess"
        for path in ("/login", "/metrics"):
            began = time.monotonic()
            if path == "/login":
                client.post(path, data={"key": "guess"})
            else:
                client.get(path, headers=bearer("guess") | {"Via": "1.1 proxy"})
            assert time.monotonic() - began >= DELAY, path
    warned = [record.getMessage() for record in caplog.records if "wrong keys" in record.getMessage()]
    assert len(warned) == 1
    assert re.match(r"127\.0\.0\.1 has sent more than 10 wrong keys", warned[0])
    assert "guess-" not in caplog.text


def test_a_proxy_is_believed_only_where_it_is_trusted(upstream: Upstream, upstream_url: str) -> None:
    settings = without_tools(upstream_url, API_KEYS="k")
    told = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https"}
    for proxies, secure in (("", False), ("127.0.0.1", True)):
        with serving("serve", **settings, TRUSTED_PROXIES=proxies) as (command, server):
            entered = httpx.post(f"{server.url}/login", data={"key": "k"}, headers=told)
            assert ("secure" in entered.headers["set-cookie"].lower()) is secure
            for at in range(11):
                httpx.get(f"{server.url}/v1/models", headers=told | bearer(f"wrong-{at}"))
            assert ("203.0.113.9 has sent" in command.output) is secure
    assert upstream.requests == []
