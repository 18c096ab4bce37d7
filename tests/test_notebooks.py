"""The notebooks, run from top to bottom beside a real demo; and what of them is kept for readers on the web."""

import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import nbformat
import pytest
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode

from tests.support.loopback import free_port
from tests.support.notebooks import NOTEBOOKS, VERSION, executed, kernel_environment, notebook_environment
from tests.support.processes import running
from tests.support.project import ROOT

pytestmark = pytest.mark.xdist_group("the offline model")  # which takes a core and two gigabytes

MAX_PICTURE = 60_000 * 4 / 3  # in base64

Environment = dict[str, str]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the notebooks are run: laid out like the project, without the developer's `.env` and sessions."""
    return tmp_path_factory.mktemp("project")


@pytest.fixture(scope="module")
def environment(folder: Path) -> Iterator[Environment]:
    """One demo and one weather service for all notebooks."""
    with notebook_environment(folder) as environment:
        yield environment


def outputs(notebook: NotebookNode) -> dict[str, str]:
    """What each cell shows, as text, by the cell's id; a picture is "image/png"."""
    shown: dict[str, str] = {}
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            text = output.get("text") or ("image/png" if "image/png" in data else data["text/plain"])
            shown[cell.id] = shown.get(cell.id, "") + text
    return shown


@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_the_agent_is_drawn_runs_a_tool_and_stops_before_it(folder: Path, environment: Environment) -> None:
    shown = outputs(executed(folder / "notebooks/01_agent.ipynb", environment))
    assert shown["draw-graph"] == "image/png"
    call, result, *_, answer = shown["stream-turn"].splitlines()
    assert "get_weather" in call
    assert "light rain, 5.3 °C" in result
    assert "5.3" in answer
    assert "next: ('tools',)" in shown["look-at-state"]
    assert "light rain" in shown["go-on-from-there"]
    assert "step  1  next: tools      messages: human ai\n" in shown["look-at-history"]
    assert "21" in shown["answer-for-the-tool"], "it goes on from the result that the notebook made"


@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_a_session_branches_and_remembers_what_the_client_never_saw(folder: Path, environment: Environment) -> None:
    shown = outputs(executed(folder / "notebooks/02_sessions.ipynb", environment))
    assert "60" in shown["three-turns"].splitlines()[-1], "the humidity, which only the tool's result says"
    assert shown["remembered"].count('assistant get_weather({"city": "Seoul"})') == 1, "asked once, and known since"
    assert "'turns': 2" in shown["session"]
    assert "'branches': 3" in shown["session"]
    assert shown["draw-tree"] == "image/png"
    turns = re.findall(r"turn (\d) of branch (\d): (\S+) after (\S+)", shown["read-checkpoints"])
    places = {checkpoint: f"{number} of {branch}" for number, branch, checkpoint, _ in turns}
    assert {places[checkpoint]: places.get(parent) for _, _, checkpoint, parent in turns} == {
        "1 of 1": None,
        "2 of 1": "1 of 1",
        "2 of 3": "1 of 1",
        "3 of 1": "2 of 1",
        "3 of 2": "2 of 1",
        "4 of 1": "3 of 1",
    }
    assert "'deleted': True" in shown["delete-session"]


@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_the_sdk_answers_streams_calls_back_parses_and_fails(folder: Path, environment: Environment) -> None:
    shown = outputs(executed(folder / "notebooks/03_openai_client.ipynb", environment))
    assert "서울" in shown["one-answer"]
    started, succeeded, answer, usage = shown["stream"].splitlines()
    assert (started.split()[0], started.split()[-1]) == ("get_weather", "started")
    assert succeeded.endswith("succeeded")
    assert "5.3" in answer
    assert re.fullmatch(r"\d+ tokens read, \d+ written", usage)
    called, answer = shown["tool-loop"].splitlines()
    assert (called, "12" in answer) == ("get_stock apples -> 12", True)
    assert shown["structured-output"].startswith("Weather(city='Seoul', temperature_celsius=5.3, humidity_percent=60")
    assert shown["error"].startswith("BadRequestError 400 temperature ")


@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_the_evaluation_tells_candidates_apart(folder: Path, environment: Environment) -> None:
    few = {"read-questions": "PER_KIND = 3 -> PER_KIND = 1"}
    shown = outputs(executed(folder / "notebooks/04_evaluate.ipynb", environment, **few))
    first, last = re.findall(r"(\d+)%", shown["table"])
    assert int(first) >= 80
    assert int(last) < int(first)
    assert "one sentence: " in shown["mistakes"]
    assert shown["plot"] == "image/png"


@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_responses_fork_call_tools_and_go_on_in_the_background(folder: Path, environment: Environment) -> None:
    shown = outputs(executed(folder / "notebooks/05_responses.ipynb", environment))
    assert "Mina" in shown["fork"].splitlines()[1]
    assert 'bundled get_weather {"city": "Seoul"} completed' in shown["tool-call"]
    assert "5.3 °C" in shown["tool-call"]
    assert "'response.mcp_call.completed'" in shown["stream"]
    began, numbers, *_ = shown["background"].splitlines()
    assert (began, numbers) == ("in_progress", "[2, 3, 4] response.completed")
    assert "Nabi" in shown["conversation"]
    assert shown["conversation"].endswith("True\n")


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=path.stem, marks=pytest.mark.nightly if number else ())
        for number, path in enumerate(NOTEBOOKS[1:])
    ],
)
def test_without_a_server_the_first_cell_says_what_to_start(path: Path, tmp_path: Path) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(CellExecutionError, match=f"No server at {nowhere}: run `make demo`"):
        executed(path, kernel_environment() | {"CHAT_AGENT_URL": nowhere, "IPYTHONDIR": str(tmp_path)})


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_is_kept_reads_well_on_the_web(path: Path) -> None:
    notebook = nbformat.read(path, VERSION)  # type: ignore[no-untyped-call]
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == [*range(1, len(code) + 1)], "run once, from top to bottom"
    assert outputs(notebook), "run with `python -m tests.support.notebooks`"
    for output in (output for cell in code for output in cell.outputs):
        assert output.output_type != "error"
        assert output.get("name") != "stderr", output.text
        assert len(output.get("data", {}).get("image/png", "")) < MAX_PICTURE
    assert all(re.fullmatch(r"[a-z-]+", cell.id) for cell in notebook.cells), "a name, and not a new one in each run"
    assert not any(cell.metadata for cell in notebook.cells), "times would change with every run"
    assert "version" not in notebook.metadata.language_info
    text = json.dumps([cell for cell in notebook.cells if not cell.metadata], ensure_ascii=False)
    text = re.sub(r'"image/png": "[^"]*"', "", text)
    assert not re.search(r"(?<![\w.:/])/(root|home|tmp|usr|Users|opt|var|work)/|[A-Z]:\\\\|site-packages", text)
    assert not re.search(r"127\.0\.0\.1:(?!23000)\d+", text), "a port of the run that made the outputs"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_headings_are_in_both_languages(path: Path) -> None:
    notebook = nbformat.read(path, VERSION)  # type: ignore[no-untyped-call]
    markdown = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    headings = re.findall(r"^#+ (.*)$", markdown, re.MULTILINE)
    assert len(headings) > 2
    assert all(re.fullmatch(r"[^가-힣]+ · .*[가-힣].*", heading) for heading in headings), headings


def test_one_command_opens_them_with_their_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert re.search(
        r"^notebooks: dev\n\t\.venv/bin/jupyter-lab notebooks \$\(ARGS\)$", (ROOT / "Makefile").read_text(), re.M
    )
    for name in ("CONFIG", "DATA", "RUNTIME"):
        monkeypatch.setenv(f"JUPYTER_{name}_DIR", str(tmp_path / name.lower()))
    monkeypatch.chdir(ROOT)
    port = free_port()
    options = [f"--ServerApp.port={port}", "--ServerApp.token=key", "--ServerApp.allow_root=True", "--no-browser"]
    with running(["-m", "jupyterlab", "notebooks", *options], port) as lab:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}/api", params={"token": "key"}, timeout=20) as client:
            shown = client.get("/contents", params={"type": "directory"}).json()["content"]
            begun = client.post("/kernels", json={"name": "python3"})
        lab.end(signal.SIGTERM)
    assert {path.name for path in NOTEBOOKS} <= {entry["name"] for entry in shown}
    assert begun.status_code == 201


def test_all_five_are_there() -> None:
    names = ["01_agent", "02_sessions", "03_openai_client", "04_evaluate", "05_responses"]
    assert [path.stem for path in NOTEBOOKS] == names
    assert all(f"notebooks/{name}.ipynb" in (ROOT / "README.md").read_text() for name in names)
