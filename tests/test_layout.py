"""What holds for the whole tree: layers, where the packages come from, what must not be in them."""

import subprocess
import sys
from pathlib import Path

import graph
import server
import tools
from tests.support.house import figures, imported_rooms, is_within_bounds
from tests.support.project import ROOT


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


def test_the_packages_are_ours_and_not_a_namesake_in_site_packages() -> None:
    for package in (graph, server, tools):
        assert Path(str(package.__file__)).parents[1] == ROOT


def test_the_graph_knows_no_http_server_and_the_tools_no_graph() -> None:
    for path, strangers in (("graph", ("fastapi", "starlette", "uvicorn")), ("tools", ("langgraph", "fastapi"))):
        for file in (ROOT / path).rglob("*.py"):
            text = file.read_text()
            assert not any(f"import {name}" in text or f"from {name}" in text for name in strangers), file
