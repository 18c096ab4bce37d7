"""The container, as far as it can be tested without an engine: its files, its builder's commands, its command."""

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import httpx
import pytest
from packaging.requirements import Requirement

from server.settings import ServerSettings
from tests.support.agent_server import MODEL, AgentServer
from tests.support.dockerfile import BUILDER, FINAL, all_of, only, variables
from tests.support.loopback import free_port
from tests.support.project import ROOT
from tests.support.waiting import until

# A cold cache downloads everything once more.
PATIENCE = 100


def in_context(path: str) -> bool:
    """Whether .dockerignore lets a file in: a pattern is for all below it too, and the last that matches decides."""
    parts = path.split("/")
    prefixes = ["/".join(parts[: length + 1]) for length in range(len(parts))]
    inside = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if line and not line.startswith("#"):
            pattern = re.escape(line.removeprefix("!")).replace(r"\*\*/", "(.*/)?").replace(r"\*", "[^/]*")
            if any(re.fullmatch(pattern, prefix) for prefix in prefixes):
                inside = line.startswith("!")
    return inside


def files_of(source: str) -> list[str]:
    """The files that a COPY of this source is meant to bring."""
    path = ROOT / source
    found = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return [str(file.relative_to(ROOT)) for file in found if "__pycache__" not in file.parts]


def copy_sources(into: Path) -> None:
    """Do the builder's COPY instructions."""
    for copy in all_of(BUILDER, "COPY"):
        *sources, _ = copy.words
        for file in (file for source in sources for file in files_of(source) if in_context(file)):
            (into / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / file, into / file)


def uv_command() -> str:
    """Where `make setup` has its uv: on the path, or else in the venv."""
    found = shutil.which("uv", path=os.pathsep.join([os.environ["PATH"], str(Path(sys.executable).parent)]))
    assert found, "`make setup` installs uv"
    return found


def uv_steps() -> list[str]:
    """The builder's RUN instructions with uv, which the image has from the one that is left out."""
    steps = [run.text for run in all_of(BUILDER, "RUN") if run.text.startswith("uv ")]
    assert len(steps) == 2
    return steps


def run_step(step: str, *, context: Path, venv: Path) -> subprocess.CompletedProcess[str]:
    """Run a step of the builder in this folder, on this venv and on this Python."""
    path = os.pathsep.join([str(Path(uv_command()).parent), os.environ["PATH"]])
    return subprocess.run(
        ["sh", "-c", step.replace("/opt/venv", shlex.quote(str(venv)))],
        cwd=context,
        env={**os.environ, **variables(BUILDER), "PATH": path, "UV_PYTHON": sys.executable},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


@pytest.fixture(scope="module")
def built_venv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The venv that the builder makes."""
    folder = tmp_path_factory.mktemp("image")
    context, venv = folder / "build", folder / "venv"
    context.mkdir()
    copy_sources(context)
    for step in uv_steps():
        done = run_step(step, context=context, venv=venv)
        assert done.returncode == 0, done.stderr
    return venv


def installed(venv: Path) -> dict[str, str]:
    """Names and versions of the packages in a venv."""
    command = [uv_command(), "pip", "list", "--format", "json", "--python", str(venv)]
    listed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE).stdout
    return {package["name"]: package["version"] for package in json.loads(listed)}


def lock_blocks(folder: Path) -> list[str]:
    """The lock of a folder, package by package."""
    return re.split(r"\n(?=\w)", (folder / "requirements.lock").read_text())


@contextmanager
def started(command: list[str], environment: Mapping[str, str], log: IO[str]) -> Iterator[subprocess.Popen[str]]:
    """Run a command, and kill it if it has not ended by itself."""
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def check_health(environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run the HEALTHCHECK as the engine would."""
    program, *arguments = json.loads(only(FINAL, "HEALTHCHECK").text.partition("CMD ")[2])
    assert program == "python"
    return subprocess.run(
        [sys.executable, *arguments],
        env={"PATH": os.environ["PATH"], **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


@pytest.mark.parametrize("source", [source for copy in all_of(BUILDER, "COPY") for source in copy.words[:-1]])
def test_all_that_the_builder_copies_is_there_and_in_the_context(source: str) -> None:
    files = files_of(source)
    assert files
    assert [file for file in files if not in_context(file)] == []


@pytest.mark.parametrize(
    "path",
    [
        ".env",
        "graph/.env",
        ".git/config",
        ".venv/bin/python",
        ".mypy_cache/CACHEDIR.TAG",
        "data/chat-agent.db",
        "graph/__pycache__/agent.cpython-311.pyc",
        "server/chat/__pycache__/route.cpython-311.pyc",
        "node_modules/a/index.js",
        "tests/conftest.py",
        "uv.lock",
        "a-new-file.txt",
    ],
)
def test_nothing_private_or_needless_is_in_the_context(path: str) -> None:
    assert not in_context(path)


def test_the_final_image_gets_the_venv_of_the_builder_and_nothing_else() -> None:
    assert only(FINAL, "COPY").text == "--from=builder /opt/venv /opt/venv"
    assert variables(FINAL)["PATH"].startswith("/opt/venv/bin:")
    assert FINAL[0].words == BUILDER[0].words[:1], "the venv stands on another Python"


def test_the_container_runs_as_a_user_of_its_own_that_owns_the_data() -> None:
    user, group = map(int, only(FINAL, "USER").text.split(":"))
    assert user >= 1000
    preparation = only(FINAL, "RUN").text
    assert f"groupadd --gid {group} agent" in preparation
    assert f"useradd --uid {user} --gid agent" in preparation
    assert re.search(r"install --directory --owner=agent --group=agent --mode=0700 /data$", preparation)
    assert only(FINAL, "VOLUME").text == "/data"
    assert variables(FINAL)["CHECKPOINT_URL"].startswith("sqlite:////data/")


def test_the_health_check_passes_on_a_server_that_answers(server: AgentServer) -> None:
    done = check_health({"API_PORT": str(httpx.URL(server.url).port)})
    assert done.returncode == 0, done.stderr


def test_the_health_check_does_not_ask_a_proxy(server: AgentServer) -> None:
    proxy = f"http://127.0.0.1:{free_port()}"
    done = check_health({"API_PORT": str(httpx.URL(server.url).port), "http_proxy": proxy, "HTTP_PROXY": proxy})
    assert done.returncode == 0, done.stderr


def test_the_health_check_fails_where_nobody_listens() -> None:
    assert check_health({"API_PORT": str(free_port())}).returncode == 1


def test_the_health_check_fails_on_a_server_that_hangs() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert check_health({"API_PORT": str(silent.getsockname()[1])}).returncode == 1


def test_the_port_is_the_same_for_the_server_the_image_and_the_health_check() -> None:
    port = ServerSettings.model_fields["api_port"].default
    assert only(FINAL, "EXPOSE").text == str(port)
    assert f"or '{port}'" in only(FINAL, "HEALTHCHECK").text


def test_the_builder_installs_the_locked_packages_that_the_project_runs_on(built_venv: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    packages = installed(built_venv)
    assert packages.pop("chat-agent")
    assert {re.split(r"[^a-z0-9-]", line)[0] for line in project["dependencies"]} <= packages.keys()
    assert not {"pip", "uv", "pytest", "mypy", "xllamacpp", "huggingface-hub"} & packages.keys()
    locked = [Requirement(block.partition("\\")[0]) for block in lock_blocks(ROOT)]
    pins = {pin.name: str(pin.specifier)[2:] for pin in locked if pin.marker is None or pin.marker.evaluate()}
    assert {name: pins.get(name) for name in packages} == packages


@pytest.mark.parametrize(
    "harm",
    [
        pytest.param(lambda _: "", id="missing"),
        pytest.param(lambda block: block.split()[0], id="without hash"),
        pytest.param(lambda block: re.sub(r"sha256:\w+", f"sha256:{'0' * 64}", block), id="with another hash"),
    ],
)
def test_the_builder_installs_nothing_that_the_lock_does_not_vouch_for(
    harm: Callable[[str], str], tmp_path: Path
) -> None:
    context = tmp_path / "build"
    context.mkdir()
    copy_sources(context)
    blocks = [harm(block) if block.startswith("anyio==") else block for block in lock_blocks(context)]
    (context / "requirements.lock").write_text("\n".join(blocks))
    done = run_step(uv_steps()[0], context=context, venv=tmp_path / "venv")
    assert done.returncode != 0
    assert "anyio" in done.stderr


def test_the_command_of_the_image_serves_keeps_its_data_and_ends_on_sigterm(
    built_venv: Path, upstream_url: str, tmp_path: Path
) -> None:
    environment = {
        name: value.replace("$PATH", os.environ["PATH"]).replace("/opt/venv", str(built_venv))
        for name, value in variables(FINAL).items()
    }
    data, port = tmp_path / "data", free_port()
    here = {"API_PORT": str(port)}
    environment["CHECKPOINT_URL"] = environment["CHECKPOINT_URL"].replace("/data/", f"{data}/", 1)
    environment |= here | {"OLLAMA_MODEL": MODEL, "OLLAMA_BASE_URL": upstream_url}
    program, *arguments = json.loads(only(FINAL, "CMD").text)
    with (
        (tmp_path / "log").open("w+") as log,
        started([str(built_venv / "bin" / program), *arguments], environment, log) as process,
    ):
        until(lambda: process.poll() is not None or check_health(here).returncode == 0, within=PATIENCE)
        assert process.poll() is None, Path(log.name).read_text()
        answer = AgentServer(f"http://127.0.0.1:{port}").ask("hello")
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE)
    assert answer == "You said: hello"
    assert "Application shutdown complete" in Path(log.name).read_text()
    assert {file.name for file in data.iterdir()} == {"chat-agent.db", "chat-agent.db.lock"}


def test_the_wheel_holds_the_three_packages_whole_and_nothing_else(tmp_path: Path) -> None:
    subprocess.run(
        [uv_command(), "build", "--quiet", "--wheel", "--out-dir", str(tmp_path), str(ROOT)],
        stdin=subprocess.DEVNULL,
        check=True,
        timeout=PATIENCE,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if not name.split("/")[0].endswith(".dist-info")}
    assert held == {file for package in ("graph", "server", "tools") for file in files_of(package)}
    assert {"graph/offline/template.jinja", "graph/offline/embedded_carriers.txt"} <= held
