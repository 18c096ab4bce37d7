"""A process that is killed at any moment loses nothing that was acknowledged."""

import random
import signal
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import httpx
import openai
import pytest

from tests.support.agent_server import AgentServer
from tests.support.command import serving, without_tools
from tests.support.databases import empty_database, select
from tests.support.responses import create
from tests.support.upstream import Upstream
from tests.support.waiting import until

WRITERS = 4
# After so many restarts of the server the writers begin new sessions: no session gets a thousand turns.
LIVES = 5


def ask(server: AgentServer, session: str, question: str, newest: dict[str, str]) -> None:
    """Ask in a session by its name, or in every second one by the id of its newest response."""
    if session.endswith(("1", "3")):
        response = create(server, input=question, previous_response_id=newest.get(session))
        newest[session] = response["id"]
    else:
        server.ask(question, session=session)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("kills", "kind"),
    [
        (6, "sqlite"),
        pytest.param(20, "postgresql", marks=pytest.mark.nightly),
        pytest.param(200, "sqlite", marks=pytest.mark.nightly),
    ],
)
def test_no_acknowledged_turn_is_lost_to_kill_9_at_any_moment(
    upstream: Upstream, upstream_url: str, request: pytest.FixtureRequest, kills: int, kind: str
) -> None:
    database = empty_database(request, kind)
    settings = without_tools(upstream_url, CHECKPOINT_URL=database, PLAYGROUND="false")  # it starts sooner
    acknowledged = defaultdict[str, list[str]](list)
    newest: dict[str, str] = {}
    chance = random.Random(5)

    def ask_until_killed(server: AgentServer, session: str, life: int) -> None:
        for number in count():
            question = f"question {life}.{number}"
            try:
                ask(server, session, question, newest)
            except (openai.APIConnectionError, httpx.TransportError):
                return
            acknowledged[session].append(question)

    def turns() -> int:
        return sum(len(questions) for questions in list(acknowledged.values()))

    for life in range(kills):
        sessions = [f"{life // LIVES}-{writer}" for writer in range(WRITERS)]
        with serving("serve", **settings) as (command, server), ThreadPoolExecutor() as pool:
            goal = turns() + chance.randrange(5, 40)
            asking = [pool.submit(ask_until_killed, server, session, life) for session in sessions]
            until(lambda goal=goal: turns() >= goal, within=60)  # type: ignore[misc]
            command.end(signal.SIGKILL)
            for future in asking:
                future.result(30)
    assert turns() >= 5 * kills
    with serving("serve", **settings) as (_, server):
        for session, questions in acknowledged.items():
            ask(server, session, "the last", newest)
            asked = [message["content"] for message in upstream.last["messages"] if message["role"] == "user"]
            assert [question for question in asked if question in questions] == questions
            assert len(set(asked)) == len(asked)
            assert len(asked) <= len(questions) + LIVES + 1, "at most the one that each life cut short beside them"
    if kind == "sqlite":
        assert select(database, "PRAGMA integrity_check") == [("ok",)]
