"""PostgreSQL as a database of threads: opened by many at once, through a pooler, and refused with a sentence."""

import asyncio
from contextlib import AsyncExitStack
from functools import partial
from traceback import format_exception

import pytest
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import empty_checkpoint

from graph.agent import build_agent
from graph.model.client import open_model
from graph.settings import AgentSettings
from graph.storage.database import DatabaseFailed
from graph.storage.opening import open_checkpointer
from graph.storage.postgres_database import PostgresDatabase
from graph.storage.saver import CheckpointUrlError, ThreadSaver
from server.sessions.index import open_index
from server.sessions.leases import Leases
from server.sessions.migrations import MIGRATIONS
from tests.support.postgres import Postgres


async def opened_in(stack: AsyncExitStack, url: str) -> ThreadSaver:
    """Open a database with all its tables."""
    saver = await stack.enter_async_context(open_checkpointer(url))
    await open_index(saver, Leases(session_wait=0))
    return saver


async def test_many_servers_may_open_an_empty_database_at_once(postgres: Postgres) -> None:
    url = postgres.new_database()
    async with AsyncExitStack() as stack:
        opening = [asyncio.create_task(opened_in(stack, url)) for _ in range(6)]
        for saver in await asyncio.gather(*opening):
            await saver.check_writable()
            [applied] = await saver.database.rows("SELECT count(*) AS count FROM migrations")
            assert applied["count"] == len(MIGRATIONS["postgresql"])


async def test_statements_are_prepared_but_not_through_a_pooler(postgres: Postgres, pgbouncer: str) -> None:
    url = postgres.new_database()
    for address, is_prepared in ((url, True), (f"{pgbouncer}/{url.rpartition('/')[2]}", False)):
        async with open_checkpointer(address) as saver:
            assert isinstance(saver.database, PostgresDatabase)
            threshold = await saver.database.read(partial(threshold_of, saver.database))
            assert (threshold is not None) == is_prepared


def threshold_of(database: PostgresDatabase) -> int | None:
    """After how many times a statement is prepared, in a piece of work."""
    return database.connection.prepare_threshold


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("postgresql://u:secret@127.0.0.1:1/d", "the database cannot be used: connection failed"),
        ("postgresql://u:sec%zzret@h/d", "CHECKPOINT_URL is no address of PostgreSQL"),
        ("postgresql://u:secret@h:port/d", "the database cannot be used: failed to resolve host"),
        ("postgresql://u:secret@h/d?colour=red", "CHECKPOINT_URL is no address of PostgreSQL"),
    ],
)
async def test_a_database_that_cannot_be_opened_is_said_without_its_password(url: str, told: str) -> None:
    with pytest.raises(CheckpointUrlError) as refused:
        async with open_checkpointer(url):
            pass
    assert told in str(refused.value)
    assert "sec" not in str(refused.value)


async def test_a_database_that_does_not_exist_is_named(postgres: Postgres) -> None:
    with pytest.raises(CheckpointUrlError, match='database "nowhere" does not exist'):
        async with open_checkpointer(postgres.url("nowhere")):
            pass


async def test_what_postgres_refuses_is_told_without_what_was_said(postgres: Postgres) -> None:
    async with open_checkpointer(postgres.new_database()) as saver:
        checkpoint = empty_checkpoint()
        checkpoint["channel_values"] = {"topic": "canary \x00"}
        checkpoint["channel_versions"] = {"topic": "1"}
        at: RunnableConfig = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}
        with pytest.raises(DatabaseFailed, match="refused a statement") as refused:
            await saver.aput(at, checkpoint, {"source": "loop", "step": 0}, {"topic": "1"})
    assert "canary" not in "".join(format_exception(refused.value))


@pytest.mark.nightly
async def test_a_checkpoint_that_is_thousands_of_checkpoints_old_can_be_gone_back_to(
    postgres: Postgres, upstream_url: str
) -> None:
    settings = AgentSettings(ollama_model="-", ollama_base_url=upstream_url)
    async with open_checkpointer(postgres.new_database()) as saver, open_model(settings) as model:
        agent = build_agent(model, checkpointer=saver)
        at: RunnableConfig = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}
        places = []
        for number in range(2_100):  # LangGraph's saver reads 1,024 at once
            at = await agent.aupdate_state(
                at, {"messages": [HumanMessage(f"{number}", id=f"{number}")]}, as_node="model"
            )
            places.append(at)
        for place in (3, 900, 1_100, 2_099):
            state = await agent.aget_state(places[place])
            assert [message.content for message in state.values["messages"]] == [f"{n}" for n in range(place + 1)]
            forked = await agent.aupdate_state(places[place], {"messages": [HumanMessage("fork")]}, as_node="model")
            assert len((await agent.aget_state(forked)).values["messages"]) == place + 2
