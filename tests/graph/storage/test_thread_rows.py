"""Taking runs back: the thread's rows are what they were before, and what others build on stays."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import uuid4

import pytest
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool

from graph.agent import AgentGraph, build_agent
from graph.model.client import open_model
from graph.settings import AgentSettings
from graph.storage.saver import ThreadSaver
from graph.storage.thread_rows import StillNeeded
from tests.support.agent_server import MODEL, AgentServer
from tests.support.databases import opened
from tests.support.upstream import Answer, Call, Upstream

DURABILITIES = ["exit", "async", "sync"]


@dataclass(frozen=True)
class Thread:
    """A thread of an agent whose saver is open."""

    agent: AgentGraph
    saver: ThreadSaver
    id: str

    async def run(self, text: str | None, durability: Any, at: str | None = None) -> str:
        """Run a turn as the platform does, and return the run's id."""
        run_id = str(uuid4())
        config: Any = {"configurable": {"thread_id": self.id}, "metadata": {"run_id": run_id}}
        if at:
            config["configurable"]["checkpoint_id"] = at
        given: Any = None if text is None else {"messages": [HumanMessage(text)]}
        await self.agent.ainvoke(given, config, durability=durability)
        return run_id

    async def said(self, at: str | None = None) -> list[str]:
        """What the thread says."""
        config: Any = {"configurable": {"thread_id": self.id, "checkpoint_id": at}}
        return [str(message.content) for message in (await self.agent.aget_state(config)).values.get("messages", [])]

    async def rows(self) -> dict[str, list[dict[str, Any]]]:
        """All that is stored."""
        database = self.saver.database
        found = {
            table: await database.read(partial(database.select, f"SELECT * FROM {table}"))
            for table in self.saver.tables.names
        }
        return {table: sorted(map(dict, rows), key=str) for table, rows in found.items()}

    async def written_last(self) -> str:
        """The checkpoint that was written last."""
        return str(max(row["checkpoint_id"] for row in (await self.rows())["checkpoints"]))


@tool
def look() -> str:
    """Look."""
    return "seen"


@pytest.fixture
async def thread(upstream_url: str, database_url: str) -> AsyncIterator[Thread]:
    settings = AgentSettings(ollama_model=MODEL, ollama_base_url=upstream_url)
    async with opened(database_url) as (saver, _), open_model(settings) as model:
        yield Thread(build_agent(model, [look], checkpointer=saver), saver, str(uuid4()))


@pytest.mark.parametrize("durability", DURABILITIES)
async def test_m23_the_newest_run_leaves_no_row_behind(thread: Thread, upstream: Upstream, durability: str) -> None:
    await thread.run("One", durability)
    before = await thread.rows()
    upstream.script(Answer(calls=[Call("look", "{}")]), Answer(["Done."]))
    newest = await thread.run("Two", durability)
    assert (await thread.said())[-1] == "Done."
    await thread.saver.adelete_for_runs([newest])
    assert await thread.rows() == before
    await thread.run("Zwei", durability)
    assert await thread.said() == ["One", "You said: One", "Zwei", "You said: Zwei"]


@pytest.mark.parametrize("durability", DURABILITIES)
async def test_m23_all_runs_are_deleted_at_once(thread: Thread, durability: str) -> None:
    runs = [await thread.run(text, durability) for text in ("One", "Two")]
    await thread.saver.adelete_for_runs(runs)
    assert await thread.rows() == {table: [] for table in thread.saver.tables.names}


@pytest.mark.parametrize("durability", DURABILITIES)
async def test_m23_a_run_that_others_build_on_is_refused_and_nothing_is_deleted(
    thread: Thread, durability: str
) -> None:
    first, _, third = [await thread.run(text, durability) for text in ("One", "Two", "Three")]
    before = await thread.rows()
    for runs in ([first], [first, third]):
        with pytest.raises(StillNeeded, match="Delete the newest run first, or the thread"):
            await thread.saver.adelete_for_runs(runs)
        assert await thread.rows() == before
    with pytest.raises(StillNeeded):
        await thread.saver.aprune([thread.id], strategy="keep_latest")
    assert await thread.rows() == before


@pytest.mark.parametrize("durability", DURABILITIES)
async def test_m23_a_branch_stays_when_the_other_one_is_taken_back(thread: Thread, durability: str) -> None:
    await thread.run("One", durability)
    fork = await thread.written_last()
    left = await thread.run("Left", durability)
    right = await thread.run("Right", durability, at=fork)
    end_of_right = await thread.written_last()
    await thread.saver.adelete_for_runs([left])
    assert await thread.said(end_of_right) == ["One", "You said: One", "Right", "You said: Right"]
    await thread.saver.adelete_for_runs([right])
    assert await thread.said() == ["One", "You said: One"]
    await thread.run("Two", durability)
    assert await thread.said() == ["One", "You said: One", "Two", "You said: Two"]


async def test_m23_threads_of_others_are_left_alone(thread: Thread) -> None:
    other = Thread(thread.agent, thread.saver, str(uuid4()))
    await other.run("Mine", "exit")
    run = await thread.run("One", "exit")
    await thread.saver.adelete_for_runs([run])
    await thread.saver.aprune([thread.id], strategy="delete")
    await thread.saver.acopy_thread(other.id, thread.id)
    assert await other.said() == await thread.said() == ["Mine", "You said: Mine"]


def lose(keep: int) -> None:
    """Delete the checkpoints of all turns but the first ones, behind the index."""
    with closing(sqlite3.connect("data/chat-agent.db")) as database:
        lost = database.execute("SELECT thread_id, checkpoint_id FROM turns ORDER BY turn").fetchall()[keep:]
        for table in ("checkpoints", "writes"):
            database.executemany(f"DELETE FROM {table} WHERE thread_id = ? AND checkpoint_id = ?", lost)
        database.commit()


@pytest.mark.parametrize("keep", [0, 1, 2])
def test_m23_a_session_goes_on_from_the_last_turn_that_is_left(
    keep: int, server: AgentServer, upstream: Upstream
) -> None:
    said = [{"role": "user", "content": "One"}]
    for question in ("Two", "Three", "Four"):
        answer = server.post({"model": MODEL, "messages": said, "session_id": "s"}).json()
        said += [answer["choices"][0]["message"], {"role": "user", "content": question}]
    lose(keep)
    assert server.post({"model": MODEL, "messages": said, "session_id": "s"}).is_success
    shown = [message["content"] for message in upstream.last["messages"][1:]]
    assert shown == [message["content"] for message in said]
    assert server.ask("Five", session="s") == "You said: Five"
