"""Many streams, long answers, large messages and many sessions cost what they bring, and no more."""

import asyncio
import json
import os
import resource
import signal
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from statistics import median
from uuid import uuid4

import httpx
import pytest

from benchmarks.endpoint import MODEL, text_of
from benchmarks.load import put_on
from benchmarks.servers import Running, endpoint, serving
from benchmarks.soak import soak
from benchmarks.speed import BURST, OURS, PACED
from server.sessions.naming import Session
from tests.support.agent_server import CERTIFICATES
from tests.support.processors import seconds_of
from tests.support.waiting import until

pytestmark = pytest.mark.xdist_group("speed")  # beside another measurement it would wait for the processor

ANSWER = {"role": "assistant", "content": text_of(100)}
QUESTION = {"role": "user", "content": "tokens=1 every=0.0"}
SESSIONS = 10_000
MAX_PAUSE = 0.05


@pytest.fixture(scope="module")
def model() -> Iterator[str]:
    with endpoint() as url:
        yield url


@pytest.fixture(scope="module")
def server(model: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(OURS, model, tmp_path_factory.mktemp("scale")) as running:
        yield running


def ask(server: Running, *messages: object, session: str | None = None) -> float:
    """Ask, and return the seconds until the answer was there."""
    url, headers = f"http://127.0.0.1:{server.port}/v1/chat/completions", {"X-Session-ID": session or str(uuid4())}

    def asking() -> None:
        response = httpx.post(
            url, json={"model": MODEL, "messages": messages}, headers=headers, timeout=60, verify=CERTIFICATES
        )
        assert response.is_success, response.text

    return seconds_of(asking, server.process_id)


def cpu_of(server: Running, work: Callable[[], object], times: int) -> float:
    """Return the CPU seconds that the server takes for some work, done several times."""
    before = server.cpu()
    for _ in range(times):
        work()
    return server.cpu() - before


def test_500_streams_at_once_are_whole_and_in_order(server: Running) -> None:
    asyncio.run(put_on(replace(PACED, at_once=500, requests=500, tokens=50), server.port))


def test_a_server_takes_more_files_than_it_is_given_at_first(model: str, tmp_path: Path) -> None:
    with ExitStack() as stack:
        with fewer_files(100):
            server = stack.enter_context(serving(OURS, model, tmp_path))
        asyncio.run(put_on(replace(PACED, at_once=100, requests=100, tokens=5), server.port))


@pytest.mark.parametrize("streamed", [True, False])
def test_an_answer_of_20000_tokens_costs_what_its_tokens_cost(server: Running, streamed: bool) -> None:
    def answered(tokens: int) -> Callable[[], object]:
        load = replace(BURST, at_once=1, requests=1, tokens=tokens, streamed=streamed)
        return lambda: asyncio.run(put_on(load, server.port))

    short, long = cpu_of(server, answered(5_000), 4), cpu_of(server, answered(20_000), 4)
    assert long < 4 * 1.5 * short


def test_a_message_of_5_megabytes_costs_what_its_bytes_cost(server: Running) -> None:
    def sent(size: int) -> Callable[[], object]:
        return lambda: ask(server, {"role": "user", "content": "한" * (size // 3) + QUESTION["content"]})

    small, large = cpu_of(server, sent(1_000_000), 5), cpu_of(server, sent(5_000_000), 5)
    assert large < 5 * 1.5 * small


def test_2000_messages_cost_what_each_of_them_costs(server: Running) -> None:
    def sent(messages: int) -> Callable[[], object]:
        return lambda: ask(server, *[QUESTION, ANSWER] * (messages // 2 - 1), QUESTION)

    few, many = cpu_of(server, sent(500), 5), cpu_of(server, sent(2_000), 5)
    assert many < 4 * 1.5 * few


@pytest.mark.nightly
def test_10000_stored_sessions_change_neither_the_start_nor_a_turn(model: str, tmp_path: Path) -> None:
    alone, among = tmp_path / "alone", tmp_path / "among"
    for folder in (alone, among):
        folder.mkdir()
        with serving(OURS, model, folder) as server:
            ask(server, QUESTION, session="first")
    multiply_sessions(database(among))
    with serving(OURS, model, alone) as few, serving(OURS, model, among) as many:
        assert many.cpu() < 1.3 * few.cpu()
        turns = [(ask(few, QUESTION), ask(many, QUESTION)) for _ in range(60)]
        ask(many, QUESTION, {"role": "assistant", "content": text_of(1)}, QUESTION, session="s-9999")
        known = httpx.get(f"http://127.0.0.1:{many.port}/v1/sessions/s-9999").json()
    assert median(among for _, among in turns) < 1.5 * median(alone for alone, _ in turns)
    assert known["turns"] == 2


def test_a_large_session_is_deleted_between_the_turns_of_others(model: str, tmp_path: Path) -> None:
    with serving(OURS, model, tmp_path) as server:
        ask(server, QUESTION, session="large")
    enlarge_session(database(tmp_path))
    with serving(OURS, model, tmp_path) as server:
        ask(server, QUESTION)
        usual = [ask(server, QUESTION) for _ in range(20)]
        url = f"http://127.0.0.1:{server.port}/v1/sessions/large"
        deletion = threading.Thread(target=lambda: httpx.delete(url, timeout=60, verify=CERTIFICATES))
        deletion.start()
        meanwhile = []
        while deletion.is_alive():
            meanwhile.append(ask(server, QUESTION))
        assert httpx.get(url).status_code == 404
    assert len(meanwhile) > 2
    # The deletion as one transaction takes 200 ms.
    assert max(meanwhile) < max(usual) + MAX_PAUSE


@pytest.mark.nightly
def test_a_deletion_that_is_killed_leaves_an_empty_session(model: str, tmp_path: Path) -> None:
    with serving(OURS, model, tmp_path) as server:
        ask(server, QUESTION, session="large")
    all_of_it = enlarge_session(database(tmp_path))
    with serving(OURS, model, tmp_path) as server, suppress(httpx.RemoteProtocolError, httpx.ReadError):
        killer = threading.Thread(target=kill_when, args=[server, lambda: rows(database(tmp_path)) < all_of_it])
        killer.start()
        httpx.delete(f"http://127.0.0.1:{server.port}/v1/sessions/large", timeout=60)
    killer.join()
    assert 0 < rows(database(tmp_path)) < all_of_it
    with serving(OURS, model, tmp_path) as server:
        url = f"http://127.0.0.1:{server.port}/v1/sessions/large"
        assert httpx.get(url).json()["turns"] == 0
        ask(server, QUESTION, session="large")
        assert httpx.get(url).json()["turns"] == 1
        assert httpx.delete(url, timeout=60).is_success
    assert rows(database(tmp_path)) == 0


def kill_when(server: Running, happened: Callable[[], bool]) -> None:
    """Wait until something has happened, and kill the server at once."""
    until(happened, within=30)
    os.kill(server.process_id, signal.SIGKILL)


def rows(path: Path) -> int:
    """Return how many writes are stored."""
    with closing(sqlite3.connect(path)) as db:
        count: int = db.execute("SELECT count(*) FROM writes").fetchone()[0]
    return count


@contextmanager
def fewer_files(limit: int) -> Iterator[None]:
    """Let this process, and those that it starts, open no more files than this."""
    usual, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (usual, most))


def database(folder: Path) -> Path:
    """Return the database that a server left."""
    (found,) = folder.rglob("chat-agent.db")
    return found


def multiply_sessions(path: Path) -> None:
    """Store a session's rows again and again, under other names."""
    names = [f"s-{number}" for number in range(SESSIONS)]
    with sqlite3.connect(path) as db:
        for table in ("checkpoints", "writes", "turns", "sessions"):
            columns = [row[1] for row in db.execute(f"PRAGMA table_info({table})") if row[1] != "turn"]
            places = ", ".join(f":{column}" for column in columns)
            for row in db.execute(f"SELECT {', '.join(columns)} FROM {table}").fetchall():
                stored = dict(zip(columns, row, strict=True))
                copies = ({**stored, "thread_id": Session("", name).thread_id, "id": name} for name in names)
                db.executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places})", copies)
        db.execute("UPDATE sessions SET newest = (SELECT turn FROM turns WHERE turns.thread_id = sessions.thread_id)")
    db.close()


def enlarge_session(path: Path) -> int:
    """Add 10,000 rows, 40 megabytes, to the writes of the only session, and return how many writes there are then."""
    with sqlite3.connect(path) as db:
        row = list(db.execute("SELECT * FROM writes").fetchone())
        columns = [column[1] for column in db.execute("PRAGMA table_info(writes)")]
        task, value = columns.index("task_id"), columns.index("value")
        for number in range(10_000):
            row[task], row[value] = json.dumps(number), os.urandom(4_000)
            db.execute(f"INSERT INTO writes VALUES ({', '.join('?' * len(row))})", row)
    db.close()
    return rows(path)


@pytest.mark.nightly
def test_many_turns_over_many_sessions_leave_the_memory_as_it_was(model: str, tmp_path: Path) -> None:
    """`make soak` in small."""
    with serving(OURS, model, tmp_path) as server:
        soaked = asyncio.run(soak(server, turns=1_500, sessions=50, at_once=8))
    assert soaked.growth < 0.1, soaked
    assert soaked.lag < 0.1, soaked
