"""Two servers behind nginx are restarted one after the other while they are asked: no request fails."""

from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.server.sessions.test_replica_faults import Load, replicas
from tests.support.agent_server import AgentServer
from tests.support.command import serving, without_tools
from tests.support.databases import select
from tests.support.postgres import Postgres
from tests.support.upstream import Upstream
from tests.test_nginx import nginx


@pytest.mark.nightly
def test_both_are_restarted_under_load_and_no_request_fails(
    upstream: Upstream, upstream_url: str, postgres: Postgres, tmp_path: Path
) -> None:
    database = postgres.new_database()
    with ExitStack() as stack:
        running = replicas(stack, upstream_url, database, 2)
        url = stack.enter_context(nginx(*(server.url for _, server in running), folder=tmp_path))
        load = Load([AgentServer(url)], is_streamed=True)
        for command, server in running:
            load.goes_on()
            assert command.end() == 0
            load.goes_on()
            port = server.url.rpartition(":")[2]
            settings = without_tools(upstream_url, CHECKPOINT_URL=database, PLAYGROUND="false", API_PORT=port)
            stack.enter_context(serving("serve", **settings))
        load.goes_on()
        load.end(upstream)
    assert load.statuses == {200}
    assert load.failures == []


@pytest.mark.nightly
def test_a_server_goes_on_while_a_newer_one_has_changed_the_tables(
    upstream: Upstream, upstream_url: str, postgres: Postgres
) -> None:
    database = postgres.new_database()
    with ExitStack() as stack:
        [(_, older)] = replicas(stack, upstream_url, database, 1)
        load = Load([older], writers=2)
        load.goes_on()
        # What a migration of a newer version may do: it adds, and never takes away.
        postgres.execute_in(
            database,
            "ALTER TABLE turns ADD COLUMN mood TEXT NOT NULL DEFAULT ''; ALTER TABLE sessions ADD COLUMN mood TEXT;"
            "CREATE INDEX turns_by_mood ON turns (mood); INSERT INTO migrations VALUES (1000, 0)",
        )
        load.goes_on()
        load.end(upstream)
    assert load.statuses == {200}
    assert select(database, "SELECT count(*) FROM turns WHERE mood = ''")[0][0] >= 40
