"""The messages of stored turns, read from their threads."""

from dataclasses import replace

from langchain_core.messages import AnyMessage

from graph.approval import NOT_STORED
from graph.assembly import Assembly
from graph.run import Agent, Position
from server.errors import NotFound
from server.messages.tool_results import UnpairedMessage
from server.sessions.approval import without_answers
from server.sessions.naming import Session
from server.sessions.reconcile import After, Knowledge, KnownTurn, reconcile
from server.sessions.records import unknown_parent, unknown_session
from server.sessions.transcript import Transcript
from server.sessions.turn_request import TurnRequest, inheriting


async def turn_messages(assembly: Assembly, session: Session, turn: KnownTurn) -> list[AnyMessage]:
    """Return all messages up to and with a turn.

    Raises:
        NotFound: the agent that answered it no longer exists.
    """
    return await agent_of(assembly, turn.agent).read(Position(session.thread_id, turn.checkpoint_id))


async def after_stored_turn(request: TurnRequest, turn: KnownTurn, assembly: Assembly) -> TurnRequest:
    """Return a request that is not stored with the conversation up to a stored turn before its messages.

    Raises:
        ApiError: tool results without their calls, or only some of those that are waited for.
        NotFound: the agent that answered the turn no longer exists.
    """
    try:
        step = reconcile(Knowledge(newest=turn), Transcript.of(request.messages), After())
    except UnpairedMessage as error:
        raise request.refuse(error) from error
    if not (before := await turn_messages(assembly, request.session, turn)):
        raise (
            unknown_parent(request.mode.response or "")
            if isinstance(request.mode, After)
            else unknown_session(request.session)
        )
    new = without_answers(turn.awaits, step.messages, NOT_STORED)
    return replace(request, messages=[*before, *new], context=inheriting(request, turn))


def agent_of(assembly: Assembly, name: str) -> Agent:
    """Return the agent of a name.

    Raises:
        NotFound: it no longer exists.
    """
    if agent := assembly.agents.get(name):
        return agent
    message = f"The agent {name!r}, which answered in this session, is not there any more; see AGENTS."
    raise NotFound(message, code="agent_not_found")
