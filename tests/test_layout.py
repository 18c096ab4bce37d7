"""What holds for the whole tree: layers, where the packages come from, what must not be in them."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import graph
import server
import tools
from tests.support.house import figures, imported_rooms, is_within_bounds
from tests.support.project import ROOT

ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text()
# `chat/route` is short for `server/chat/route.py` where a page tells a request's way.
FOLDERS = {"graph", "server", "tools", "tests", "docs", "benchmarks", ".ci"}


def test_imports_only_ever_point_down() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout


def test_the_house_stays_small() -> None:
    rooms = imported_rooms()
    assert is_within_bounds(rooms), figures(rooms)


def test_no_module_is_longer_than_can_be_read_in_one_sitting() -> None:
    modules = [file for package in ("graph", "server", "tools") for file in (ROOT / package).rglob("*.py")]
    assert [file for file in modules if len(file.read_text().splitlines()) > 250] == []


def test_architecture_names_every_module_and_no_other() -> None:
    rows = re.findall(r"^\| `(\w[\w/]*/)` \| .* \| (.*) \|$", ARCHITECTURE, re.MULTILINE)
    named = {f"{folder}{name}.py" for folder, told in rows for name in re.findall(r"`(\w+)`", told)}
    modules = {
        str(file.relative_to(ROOT))
        for package in ("graph", "server", "tools")
        for file in (ROOT / package).rglob("*.py")
        if file.name != "__init__.py"
    }
    assert named == modules


@pytest.mark.parametrize(
    "page",
    [
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "docs/decisions.md",
        "docs/compatibility.md",
        "docs/contract.md",
        "docs/performance.md",
    ],
)
def test_every_file_that_a_page_names_is_there(page: str) -> None:
    text = (ROOT / page).read_text()
    named = {path for path in re.findall(r"`((?:[\w.]+/)+[\w.]*)`", text) if path.split("/")[0] in FOLDERS}
    named |= {str(Path(page).parent / path) for path in re.findall(r"\]\((?!http)([^)#]+)", text)}
    assert [path for path in named if not any((ROOT / f"{path}{end}").exists() for end in ("", ".py"))] == []


def test_the_packages_are_ours_and_not_a_namesake_in_site_packages() -> None:
    for package in (graph, server, tools):
        assert Path(str(package.__file__)).parents[1] == ROOT


def test_the_graph_knows_no_http_server_and_the_tools_no_graph() -> None:
    for path, strangers in (("graph", ("fastapi", "starlette", "uvicorn")), ("tools", ("langgraph", "fastapi"))):
        for file in (ROOT / path).rglob("*.py"):
            text = file.read_text()
            assert not any(f"import {name}" in text or f"from {name}" in text for name in strangers), file


@pytest.mark.parametrize("page", ["docs/security.md", "docs/reliability.md"])
def test_every_test_that_a_page_names_is_there(page: str) -> None:
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", (ROOT / page).read_text())
    assert len(named) > 20
    for file, name in named:
        written = ROOT / "tests" / file.removeprefix("tests/")
        assert f"def {name}(" in written.read_text(), f"{page}: {file}::{name}"
