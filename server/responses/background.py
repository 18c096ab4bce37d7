"""Responses that are made in the background: they go on without the request that began them.

What the stream of one tells is kept, here while it is made and in the database for readers that come later or ask
another process.
"""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import replace
from typing import Annotated, Any

from fastapi import Depends, Request

from graph.storage.database import DatabaseUnavailable
from server.errors import NotFound, RunCancelled, Unavailable
from server.http.foreign_errors import as_api_error
from server.http.json_body import encoded
from server.responses.reply import DONE, ResponseReply, frame, last_event
from server.responses.resource import KNOWN_CODES, Resource, dump_error
from server.responses.told import events_in, items_told, split
from server.sessions.naming import Session
from server.sessions.progress import BEAT, Progress
from server.sessions.records import AnsweredResponse
from server.sessions.responses import StoredResponse
from server.sessions.runs import Run

log = logging.getLogger(__name__)

Json = dict[str, Any]

# Seconds between two looks at a response that another process makes.
PAUSE = 0.5


class Recording:
    """A response that this process makes.

    Args:
        run: its run.
        resource: the response.
        session: its session.
        progress: where other processes see how far it is.
    """

    def __init__(self, run: Run, resource: Resource, session: Session, progress: Progress) -> None:
        self._run, self._resource, self._session, self._progress = run, resource, session, progress
        self._frames: list[bytes] = []
        self._kept = 0  # frames that are in the database
        self._has_ended = False
        self._news = asyncio.Event()
        self.task = asyncio.create_task(self._record(), name=f"recording of {resource.id}")

    async def _record(self) -> None:
        reply = ResponseReply(self._resource, is_streamed=True)
        beating = asyncio.create_task(self._beat())
        try:
            async for encoded in reply.encode([self._run.events()]):
                if encoded != DONE:
                    self._frames.append(encoded)
                    self._tell()
        finally:
            beating.cancel()
            await asyncio.wait({beating})
        assert reply.ended
        try:
            await self._end(self._resource.stored(reply.ended, self._resource.given.items_of_all()))
        finally:
            self._has_ended = True
            self._tell()

    async def _end(self, ended: AnsweredResponse) -> None:
        """Store the end, as soon as the database answers."""
        while True:
            try:
                frames = b"".join(self._frames[self._kept :])
                return await self._progress.end(self._session, ended, self._kept, frames)
            except DatabaseUnavailable as error:
                log.warning("The end of %s is not stored yet. %s", ended.id, error)
                await asyncio.sleep(BEAT)

    async def _beat(self) -> None:
        """Say now and then that the response is still made, and stop it if somebody asks for that."""
        while True:
            await asyncio.sleep(BEAT)
            kept, frames = self._kept, self._frames[self._kept :]
            try:
                is_stopped = await self._progress.note(self._session, self._resource.id, kept, b"".join(frames))
            except Exception as error:  # the next beat tells more
                log.warning("How far %s is could not be stored. %s", self._resource.id, as_api_error(error).message)
                continue
            self._kept = kept + len(frames)
            if is_stopped:
                self._run.stop(RunCancelled())

    def _tell(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def follow(self, after: int) -> AsyncGenerator[bytes]:
        """Yield the frames after the event of this number, and those that come, to the end."""
        place = after + 1
        while True:
            news = self._news
            if frames := self._frames[place:]:
                place += len(frames)
                yield b"".join(frames)
            elif self._has_ended:
                break
            else:
                await news.wait()
        yield DONE

    async def cancel(self) -> None:
        """Stop the run, and wait until its end is stored."""
        self._run.stop(RunCancelled())
        await asyncio.wait({self.task})


class Background:
    """The responses that are made in the background, by this process and by others.

    Args:
        progress: how far they are.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._recordings: dict[str, Recording] = {}

    async def begin(
        self, resource: Resource, session: Session, start: Callable[[], Run], *, is_streamed: bool
    ) -> Recording:
        """Enter a response, start its run and record it."""
        begun = resource.stored(resource.begun(), resource.given.items_of_all())
        await self._progress.begin(session, begun, is_streamed=is_streamed)
        recording = self._recordings[resource.id] = Recording(start(), resource, session, self._progress)
        recording.task.add_done_callback(lambda _: self._forget(resource.id, recording))
        return recording

    def _forget(self, response_id: str, recording: Recording) -> None:
        del self._recordings[response_id]
        if not recording.task.cancelled() and (error := recording.task.exception()):
            log.error("The end of %s could not be stored.", response_id, exc_info=error)

    async def settled(self, stored: StoredResponse) -> StoredResponse:
        """Return a stored response; one whose process is gone has failed, with what it has told until then.

        If that process has stored its turn, only the end of its stream is told.
        """
        response_id = stored.answered.id
        if not stored.is_open or response_id in self._recordings or not await self._progress.is_lost(response_id):
            return stored
        answered = stored.answered
        pieces = await self._progress.told(stored.session, response_id)
        told = [event for _, frames in pieces for event in events_in(frames)]
        if answered.status == "in_progress":
            gone = Unavailable("The server was stopped before the response was complete.")
            failed = {"status": "failed", "output": items_told(told), "error": dump_error(gone, KNOWN_CODES)}
            answered = replace(answered, status="failed", resource=encoded({**stored.resource, **failed}))
        number = len(told)
        last = frame(last_event(json.loads(answered.resource)), number)
        await self._progress.end(stored.session, answered, number, last)
        return replace(stored, answered=answered, is_open=False)

    async def cancel(self, stored: StoredResponse, again: Callable[[], Awaitable[StoredResponse]]) -> StoredResponse:
        """Stop a response in progress, wherever it is made, and return it at its end."""
        response_id = stored.answered.id
        if recording := self._recordings.get(response_id):
            await recording.cancel()
            return await again()
        await self._progress.cancel(response_id)
        while stored.answered.status == "in_progress":
            await asyncio.sleep(PAUSE)
            stored = await self.settled(await again())
        return stored

    async def follow(
        self, stored: StoredResponse, after: int, again: Callable[[], Awaitable[StoredResponse]]
    ) -> AsyncGenerator[bytes]:
        """Yield the frames of a response after the event of this number, to its end."""
        if recording := self._recordings.get(stored.answered.id):
            async for frames in recording.follow(after):
                yield frames
            return
        while True:
            try:
                # Looked at before the events: all of them are there if it has ended by then.
                stored = await self.settled(await again())
                pieces = await self._progress.told(stored.session, stored.answered.id, after)
            except DatabaseUnavailable:
                await asyncio.sleep(PAUSE)
                continue
            except NotFound as error:  # deleted, with its session
                gone = {"status": "failed", "error": dump_error(error, KNOWN_CODES)}
                yield frame(last_event({**stored.resource, **gone}), after + 1)
                break
            for first, frames in pieces:
                told = split(frames)
                if new := told[max(after + 1 - first, 0) :]:
                    after = first + len(told) - 1
                    yield b"".join(new)
            if not stored.is_open:
                break
            await asyncio.sleep(PAUSE)
        yield DONE

    async def ended(self, *, within: float | None = None) -> None:
        """Wait until all responses of this process have ended, for so many seconds at the most."""
        if tasks := {recording.task for recording in self._recordings.values()}:
            await asyncio.wait(tasks, timeout=within)


async def _background(request: Request) -> Background:
    background: Background = request.app.state.background
    return background


BackgroundDep = Annotated[Background, Depends(_background)]
