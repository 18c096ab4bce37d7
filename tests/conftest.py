"""What every test may use. No test reads the developer's environment or `.env`."""

import gc
import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from server.settings import ServerSettings
from tests.support.agent_server import AgentServer, agent_server
from tests.support.canary import CANARY
from tests.support.databases import KINDS, empty_database
from tests.support.loopback import served
from tests.support.open_meteo import OpenMeteo
from tests.support.postgres import Postgres, running_pgbouncer, running_postgres
from tests.support.upstream import Upstream
from tools.bundled.settings import ToolSettings

SETTINGS = {name.upper() for kind in (ServerSettings, ToolSettings) for name in kind.model_fields}


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting comes from outside, and whatever is written goes into the test's own folder."""
    for name in list(os.environ):
        if name.upper() in SETTINGS:
            monkeypatch.delenv(name)
    monkeypatch.setenv("OLLAMA_API_KEY", CANARY)
    monkeypatch.chdir(tmp_path)


def pytest_collection_finish() -> None:
    """Take all modules and tests out of the garbage collector's hands: they stay, and looking through them takes 0.3 s.

    Model endpoints and clients of the tests run in this process and would stand still meanwhile, while they measure.
    """
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail a test in which a server of ours has printed its secret."""
    report = yield
    if report.passed and any(CANARY in printed for _, printed in report.sections):
        report.outcome, report.longrepr = "failed", f"{CANARY} is in what was printed"
    return report


@pytest.fixture
def upstream() -> Upstream:
    """The model endpoint that `server` asks."""
    return Upstream()


@pytest.fixture
def upstream_url(upstream: Upstream) -> Iterator[str]:
    """Where the model endpoint answers."""
    with served(upstream.app) as url:
        yield f"{url}/v1"


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """The PostgreSQL server of this process."""
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def pgbouncer(postgres: Postgres) -> Iterator[str]:
    """PgBouncer before it, which gives each transaction another connection."""
    with running_pgbouncer(postgres) as url:
        yield url


@pytest.fixture(params=KINDS)
def database_url(request: pytest.FixtureRequest) -> str:
    """An empty database of each kind."""
    return empty_database(request, request.param)


@pytest.fixture(params=["sqlite", "postgresql", pytest.param("pgbouncer", marks=pytest.mark.nightly)])
def every_database(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The database of all servers of a test: one of each kind that is kept, in turn."""
    url = empty_database(request, request.param)
    monkeypatch.setenv("CHECKPOINT_URL", url)
    return url


@pytest.fixture
def open_meteo() -> OpenMeteo:
    """The weather service."""
    return OpenMeteo()


@pytest.fixture
def open_meteo_url(open_meteo: OpenMeteo) -> Iterator[str]:
    """Where the weather service answers."""
    with served(open_meteo.app) as url:
        yield url


@pytest.fixture
def server(upstream_url: str) -> Iterator[AgentServer]:
    """The agent without tools, on a database of its own."""
    with agent_server(ollama_base_url=upstream_url, use_mcp_tools=False) as running:
        yield running


@pytest.fixture
def weather_server(upstream_url: str, open_meteo_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[AgentServer]:
    """The agent with the bundled tools over stdio, which ask the stub of the weather service."""
    monkeypatch.setenv("OPEN_METEO_GEOCODING_URL", open_meteo_url)
    monkeypatch.setenv("OPEN_METEO_FORECAST_URL", open_meteo_url)
    with agent_server(ollama_base_url=upstream_url) as running:
        yield running


@pytest.fixture
def anyio_backend() -> str:
    """Asyncio alone: LangGraph and uvicorn know no other."""
    return "asyncio"
