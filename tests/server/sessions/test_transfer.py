"""Copying sessions between databases: nothing of a checkpoint is lost, whatever the graph has put into it."""

from dataclasses import dataclass
from typing import Any

from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.serde.types import _DeltaSnapshot

from graph.storage.run_saver import PutCheckpoint, PutWrites
from server.sessions.index import SessionIndex
from server.sessions.naming import Session
from server.sessions.reconcile import Step
from server.sessions.records import AnsweredTurn
from server.sessions.transcript import digest_of
from server.sessions.transfer import Transfer, threads_of
from tests.support.databases import opened
from tests.support.postgres import Postgres

MINA = Session("", "mina")
AT: RunnableConfig = {"configurable": {"thread_id": MINA.thread_id, "checkpoint_ns": ""}}


@dataclass
class Mood:
    """A type of a graph that somebody brought."""

    name: str


VALUES: dict[str, Any] = {
    "messages": _DeltaSnapshot([HumanMessage("hi", id="1"), AIMessage("\x00", id="2")]),
    "mood": Mood("good"),
    "text": "plain",
    "number": 1.5,
    "nothing": None,
    "bytes": b"\xff",
}


async def store(sessions: SessionIndex) -> None:
    """Store a turn whose graph keeps values of every kind, with writes of two tasks in their order."""
    checkpoint = empty_checkpoint()
    checkpoint["channel_values"] = VALUES
    checkpoint["channel_versions"] = {name: f"{place:032}.5" for place, name in enumerate(VALUES)}
    put = PutCheckpoint(AT, checkpoint, {"source": "loop", "step": 3, "parents": {}}, checkpoint["channel_versions"])
    writes = [
        PutWrites(put.own_config, [("messages", [HumanMessage(f"{task} {n}")]) for n in range(3)], task, path)
        for task, path in (("b", "~__pregel_pull, one"), ("a", "~__pregel_pull, two"))
    ]
    turn = AnsweredTurn(
        step=Step(None, []),
        asked=b"a",
        digest=digest_of([HumanMessage("hi")]),
        waiting=["call\x00"],
        checkpoint_id=checkpoint["id"],
        agent="mine",
        habit="full",
        response=None,
        standing=(),
    )
    await sessions.store(MINA, turn, [put, *writes])


async def test_what_is_copied_and_copied_back_is_what_it_was(postgres: Postgres) -> None:
    async with (
        opened("sqlite:///here.db") as (here, sessions),
        opened(postgres.new_database()) as (there, _),
        opened("sqlite:///back.db") as (back, again),
    ):
        await store(sessions)
        assert [thread async for thread in threads_of(here.database)] == [MINA.thread_id]
        for source, target in ((here, there), (there, back)):
            assert await Transfer(source, target).copy(MINA.thread_id)
            assert not await Transfer(source, target).copy(MINA.thread_id)
        assert await again.get(MINA) == await sessions.get(MINA)
        assert await again.end_of_branch(MINA, None) == await sessions.end_of_branch(MINA, None)
        for saver in (here, there, back):
            saver.serde = JsonPlusSerializer(allowed_msgpack_modules=[(Mood.__module__, "Mood")])
        found = [await saver.aget_tuple(AT) for saver in (here, there, back)]
        first = found[0]
        assert first
        assert first.checkpoint["channel_values"] == VALUES
        for other in found[1:]:
            assert other
            assert other.checkpoint == first.checkpoint
            assert (other.metadata, other.pending_writes) == (first.metadata, first.pending_writes)
