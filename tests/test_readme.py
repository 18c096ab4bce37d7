"""The README in both languages: the same commands, and every one of them works."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from server.process import SHUTDOWN_TIMEOUT
from server.replies import DRAIN_SECONDS
from tests.agent_server import agent_server
from tests.upstream import Answer, Upstream

ROOT = Path(__file__).parents[1]
FENCE = re.compile(r"^( *)```(\w+)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
ADDRESS, MODEL = "http://127.0.0.1:23000", "qwen2.5-coder-1.5b"

# What a test cannot run inside itself, and who runs it.
RUN_ELSEWHERE = {
    "make demo": "tests/test_demo.py",
    "make serve": "tests/test_command.py",
    "make studio": "tests/test_studio.py",
    "make dev": ".ci/run",
    "make notebooks": "tests/test_notebooks.py",
    "make setup": ".ci/run",
    "make check": ".ci/run",
    "make test": ".ci/run",
    "cp .env.example .env": "tests/test_command.py",
    "make mcp": "tests/test_mcp_server.py",
    "ollama pull llama3.2": "Ollama's own",
    "export ENABLE_FORWARD_USER_INFO_HEADERS=true": "Open WebUI's own",
}


def blocks(readme: str, language: str) -> list[str]:
    """The code blocks of one language, with their indentation taken off."""
    found = FENCE.findall((ROOT / readme).read_text())
    return [re.sub(f"^{indent}", "", text, flags=re.MULTILINE) for indent, name, text in found if name == language]


def commands(text: str) -> list[str]:
    """The commands of a shell block, continued lines joined."""
    return re.sub(r"\\\n\s*", "", text).strip().splitlines()


@pytest.mark.parametrize("language", ["bash", "python", "json", "yaml", "mermaid"])
def test_both_readmes_show_the_same_code(language: str) -> None:
    assert blocks("README.md", language) == blocks("README.ko.md", language) != []


def test_both_readmes_name_the_same_settings_and_files() -> None:
    english, korean = (
        set(re.findall(r"`([A-Z][A-Z_]+)[`=]|\]\(([^)h][^)]*)\)", (ROOT / name).read_text()))
        for name in ("README.md", "README.ko.md")
    )
    assert english ^ korean == {("", "README.md"), ("", "README.ko.md")}
    for _, link in english | korean:
        assert (ROOT / link).exists(), link


@pytest.mark.parametrize(
    ("name", "sentence"),
    [("README.md", "to {} s:"), ("README.ko.md", "최대 {}초까지"), ("Dockerfile", "up to {} seconds")],
)
def test_how_long_streams_go_on_is_said_as_it_is(name: str, sentence: str) -> None:
    text = (ROOT / name).read_text()
    assert sentence.format(DRAIN_SECONDS) in text
    patience = re.search(r"docker stop --time (\d+)", text)
    assert patience is not None
    assert int(patience[1]) > SHUTDOWN_TIMEOUT


@pytest.mark.parametrize("block", blocks("README.md", "bash"))
def test_every_command_works_after_those_before_it(upstream: Upstream, upstream_url: str, block: str) -> None:
    upstream.otherwise = Answer(["An answer."])
    with agent_server(ollama_model=MODEL, ollama_base_url=upstream_url, use_mcp_tools=False) as server:
        with server.client(session="mina") as client:
            client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "hello"}])
        for command in commands(block):
            if command in RUN_ELSEWHERE:
                assert_is_a_target(command)
            else:
                answer = run(command, server.url)
                assert "An answer." in answer or "/v1/sessions" in command


def assert_is_a_target(command: str) -> None:
    """A `make` command is one that the Makefile knows."""
    target = re.fullmatch(r"make (\w+)", command)
    assert target is None or re.search(rf"^[\w ]*\b{target[1]}\b.*:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def run(command: str, address: str) -> str:
    """Run a curl command against our server; it must be answered with success."""
    assert command.startswith("curl ")
    command = command.replace("curl ", "curl -sS --fail-with-body ", 1).replace(ADDRESS, address)
    ended = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.mark.parametrize("program", blocks("README.md", "python"))
def test_every_program_works(upstream: Upstream, upstream_url: str, program: str) -> None:
    upstream.otherwise = Answer(["An answer."])
    with agent_server(ollama_model=MODEL, ollama_base_url=upstream_url, use_mcp_tools=False) as server:
        ended = subprocess.run(
            [sys.executable, "-c", program.replace(ADDRESS, server.url)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=os.environ,
        )
    assert (ended.returncode, ended.stdout.strip()) == (0, "An answer."), ended.stderr
