"""The notebooks as a reader runs them: a real kernel, beside a real `chat-agent demo` with the weather service's stub.

    .venv/bin/python -m tests.support.notebooks [01 …]

runs all of them, or some, and keeps what they show, for readers on the web.
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode

from tests.conftest import SETTINGS
from tests.support.command import serving
from tests.support.loopback import served
from tests.support.open_meteo import OpenMeteo
from tests.support.project import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
CELL_TIMEOUT = 300
VERSION = 4


@contextmanager
def notebook_environment(folder: Path) -> Iterator[dict[str, str]]:
    """Serve the demo and its weather from a folder that is laid out like the project; yield what kernels are told."""
    shutil.copytree(ROOT / "notebooks", folder / "notebooks")
    shutil.copytree(ROOT / "benchmarks", folder / "benchmarks")
    with pytest.MonkeyPatch.context() as patch, served(OpenMeteo().app) as weather:
        for name in SETTINGS & {name.upper() for name in os.environ}:
            patch.delenv(name)
        patch.chdir(folder)
        addresses = {"OPEN_METEO_GEOCODING_URL": weather, "OPEN_METEO_FORECAST_URL": weather}
        with serving("demo", **addresses) as (_, server):
            told = {"CHAT_AGENT_URL": server.url, "IPYTHONDIR": str(folder / "ipython"), **addresses}
            yield kernel_environment() | told


def kernel_environment() -> dict[str, str]:
    """Return ours without pytest's own variable, with which ipykernel has no standard error for MCP servers."""
    return {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}


def executed(path: Path, environment: Mapping[str, str], **replaced: str) -> NotebookNode:
    """Run a notebook from top to bottom and return it with its outputs; an error in a cell is an error here.

    In `replaced`, lines of a cell are given by the cell's id as `old -> new`.
    """
    notebook: NotebookNode = nbformat.read(path, VERSION)  # type: ignore[no-untyped-call]
    for cell in notebook.cells:
        if cell.id in replaced:
            old, new = replaced[cell.id].split(" -> ")
            assert old in cell.source
            cell.source = cell.source.replace(old, new)
    client = NotebookClient(
        notebook, timeout=CELL_TIMEOUT, coalesce_streams=True, resources={"metadata": {"path": str(path.parent)}}
    )
    client.execute(env=dict(environment))
    return notebook


def without_traces(notebook: NotebookNode) -> NotebookNode:
    """Return a notebook that was run without what differs from machine to machine: times and versions."""
    for cell in notebook.cells:
        cell.metadata = {}
    notebook.metadata.language_info = {"name": "python"}
    return notebook


def main() -> None:
    """Run the notebooks and write them back with their outputs."""
    with tempfile.TemporaryDirectory() as folder, notebook_environment(Path(folder)) as environment:
        for path in (path for path in NOTEBOOKS if path.name.startswith(tuple(sys.argv[1:]) or ("",))):
            print(path.name, flush=True)
            notebook = without_traces(executed(Path(folder) / "notebooks" / path.name, environment))
            nbformat.write(notebook, path)  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main()
