"""Responses that another process makes in the background: followed, streamed and cancelled from here."""

from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.server.responses.test_background import begin, cancel, ended, replayed
from tests.server.sessions.test_replicas import Pair, both
from tests.support.databases import change, select
from tests.support.responses import create, get, refused, text_of
from tests.support.upstream import Answer, Upstream
from tests.support.waiting import until

__all__ = ["both"]  # the fixture


def test_a_response_is_known_to_every_process(both: Pair, upstream: Upstream) -> None:
    upstream.script(Answer(["Hel", "lo."], pause=0.3))
    begun = begin(both.first)
    assert get(both.second, begun["id"]).json()["status"] == "in_progress"
    assert text_of(ended(both.second, begun)) == "Hello."
    create(both.second, input="more", previous_response_id=begun["id"])
    assert len(upstream.last["messages"]) == 4


def test_a_stream_is_followed_from_another_process(both: Pair, upstream: Upstream) -> None:
    upstream.script(Answer([f"{number} " for number in range(5)], pause=0.3))
    body = {"model": "test-model", "input": "count", "stream": True, "background": True}
    with httpx.stream("POST", f"{both.first.url}/v1/responses", json=body) as answer:
        for line in answer.iter_lines():
            if line.startswith("data:"):
                response_id = httpx.Response(200, text=line[6:]).json()["response"]["id"]
                break
    followed = replayed(both.second, response_id)
    assert [event["sequence_number"] for event in followed] == list(range(len(followed)))
    assert text_of(followed[-1]["response"]) == "0 1 2 3 4 "
    assert replayed(both.first, response_id) == followed
    assert replayed(both.second, response_id, 4) == followed[5:]


def test_a_response_is_cancelled_from_another_process(both: Pair, upstream: Upstream) -> None:
    upstream.script(Answer(["Once "], hold=True))
    begun = begin(both.first)
    until(lambda: upstream.streaming == 1, within=5.0)
    answer = cancel(both.second, begun)
    assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
    until(lambda: upstream.streaming == 0, within=2.0)
    assert get(both.first, begun["id"]).json() == answer.json()
    assert refused(both.first, previous_response_id=begun["id"])[0] == 400


def test_a_response_that_was_given_up_stays_failed(
    both: Pair, upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    """As where a process could not reach its database for a minute."""
    upstream.script(Answer(["Once ", "upon ", "a time"], pause=1.5))
    begun = begin(both.first)
    until(lambda: upstream.streaming == 1, within=5.0)

    def is_given_up() -> bool:
        change(both.database, "UPDATE responses SET beat = beat - 61 WHERE ended_at IS NULL")
        with ThreadPoolExecutor(8) as pool:
            told = {*pool.map(lambda _: get(both.second, begun["id"]).json()["status"], range(8))}
        return told == {"failed"}

    until(is_given_up, within=3.0)  # the process that is at it may beat in between
    until(lambda: upstream.closed_early == 1 or "given up" in caplog.text, within=10.0)
    assert get(both.first, begun["id"]).json()["status"] == "failed"
    assert select(both.database, "SELECT count(*) FROM turns") == [(0,)]
