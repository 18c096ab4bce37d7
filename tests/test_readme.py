"""The README in both languages: the same content, and every command and program in it works as it stands there."""

import re
import shlex
import sys
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path

import httpx
import pytest

from server.command.process import SHUTDOWN_TIMEOUT
from server.http.event_stream import DRAIN_SECONDS
from server.settings import ServerSettings
from tests.support.agent_server import AgentServer, agent_server
from tests.support.command import run, serving
from tests.support.dockerfile import FINAL, only, variables
from tests.support.loopback import free_port, served
from tests.support.project import ROOT
from tests.support.terminal import Terminal, at_terminal
from tests.support.upstream import Answer, Upstream

READMES = ("README.md", "README.ko.md")
FENCE = re.compile(r"^( *)```(\w+)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
ADDRESS, MODEL = "http://127.0.0.1:23000", "qwen2.5-coder-1.5b"
OLLAMA = "http://localhost:11434/v1"
PIECES = ("An answer, ", "as it comes, ", "piece by piece.")
PAUSE = 0.4

# What a test cannot run inside itself, and who runs it.
RUN_ELSEWHERE = {
    "make demo": "tests/test_demo.py",
    "make serve": "tests/server/command/test_command.py",
    "make chat": "tests/server/command/test_chat_command.py",
    "make studio": "tests/server/command/test_studio.py",
    "make dev": ".ci/run",
    "make notebooks": "tests/test_notebooks.py",
    "make setup": ".ci/run",
    "make check": ".ci/run",
    "make test": ".ci/run",
    "make bench": "tests/test_speed.py",
    "cp .env.example .env": "tests/server/command/test_command.py",
    "AGENTS=my_agents:poet .venv/bin/chat-agent serve": "tests/server/test_agents.py",
    "make mcp": "tests/tools/bundled/test_server.py",
    "ollama pull llama3.2": "Ollama's own",
    "export ENABLE_FORWARD_USER_INFO_HEADERS=true": "Open WebUI's own",
    ".venv/bin/python examples/api_client_example.py": "tests/test_examples.py",
    "bash examples/api_client_curl.sh": "tests/test_examples.py",
}


def text_of(readme: str) -> str:
    return (ROOT / readme).read_text()


def blocks(readme: str, language: str) -> list[str]:
    """The code blocks of one language, with their indentation taken off."""
    found = FENCE.findall(text_of(readme))
    return [re.sub(f"^{indent}", "", text, flags=re.MULTILINE) for indent, name, text in found if name == language]


def commands(text: str) -> list[str]:
    """The commands of a shell block, continued lines joined."""
    return re.sub(r"\\\n\s*", "", text).strip().splitlines()


def without_labels(picture: str) -> str:
    """A picture without what is written in it."""
    return re.sub(r'"[^"]*"', '""', picture)


def prose(readme: str) -> str:
    return FENCE.sub("", text_of(readme))


def first_columns(readme: str) -> list[str]:
    """What the tables have in their first columns."""
    return re.findall(r"^\| (.*?) \|", prose(readme), re.MULTILINE)


@pytest.mark.parametrize("language", ["bash", "python", "json", "yaml", "text"])
def test_both_readmes_show_the_same_code(language: str) -> None:
    assert blocks("README.md", language) == blocks("README.ko.md", language) != []


def test_f15_both_readmes_show_the_same_pictures_each_in_its_language() -> None:
    english, korean = (blocks(readme, "mermaid") for readme in READMES)
    assert [without_labels(picture) for picture in english] == [without_labels(picture) for picture in korean] != []
    assert not re.search("[가-힣]", "".join(english))
    for picture in korean:
        assert re.search("[가-힣]", picture)


@pytest.mark.parametrize(
    "pattern",
    [
        pytest.param(r"^(#+) ", id="headings and their levels"),
        pytest.param(r"^ *```(\w+)$", id="code blocks"),
        pytest.param(r"^(\|)", id="rows of tables"),
        pytest.param(r"^ *(-) ", id="items of lists"),
    ],
)
def test_f15_both_readmes_have_the_same_structure(pattern: str) -> None:
    english, korean = (re.findall(pattern, text_of(readme), re.MULTILINE) for readme in READMES)
    assert english == korean != []


def test_f15_the_tables_speak_of_the_same_things() -> None:
    english, korean = (first_columns(readme) for readme in READMES)
    code = re.compile(r"`+[^`]*`+")
    assert len(english) == len(korean)
    assert [code.findall(row) for row in english] == [code.findall(row) for row in korean]


def test_f15_the_tilde_strikes_nothing_out() -> None:
    for readme in READMES:
        assert "~" not in prose(readme)


def test_both_readmes_name_the_same_settings_and_files() -> None:
    english, korean = (
        set(re.findall(r"`([A-Z][A-Z_]+)[`=]|\]\(([^)#h][^)]*)\)", text_of(readme))) for readme in READMES
    )
    assert english ^ korean == {("", "README.md"), ("", "README.ko.md")}
    for _, link in english | korean:
        assert (ROOT / link).exists(), link


@pytest.mark.parametrize("readme", READMES)
def test_every_link_within_a_readme_leads_to_a_heading(readme: str) -> None:
    headings = re.findall(r"^#+ (.*)$", text_of(readme), re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert {*re.findall(r"\]\(#([^)]*)\)", text_of(readme))} <= anchors


@pytest.mark.parametrize(
    ("name", "sentence"),
    [("README.md", "to {} s:"), ("README.ko.md", "최대 {}초까지"), ("Dockerfile", "up to {} seconds")],
)
def test_how_long_streams_go_on_is_said_as_it_is(name: str, sentence: str) -> None:
    text = text_of(name)
    assert sentence.format(DRAIN_SECONDS) in text
    patience = re.search(r"docker stop --time (\d+)", text)
    assert patience is not None
    assert int(patience[1]) > SHUTDOWN_TIMEOUT


@pytest.mark.parametrize("block", blocks("README.md", "bash"))
def test_f3_every_command_works_after_those_before_it(upstream: Upstream, upstream_url: str, block: str) -> None:
    upstream.otherwise = Answer(PIECES, pause=PAUSE)
    with agent_server(ollama_model=MODEL, ollama_base_url=upstream_url, use_mcp_tools=False) as server:
        with server.client(session="mina") as client:
            client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "hello"}])
        for command in commands(block):
            if command in RUN_ELSEWHERE:
                assert_is_a_target(command)
            elif not command.startswith("docker "):  # of which see below
                works(command, server, upstream_url)


def assert_is_a_target(command: str) -> None:
    """A `make` command is one that the Makefile knows."""
    target = re.fullmatch(r"make (\w+)", command)
    assert target is None or re.search(rf"^[\w ]*\b{target[1]}\b.*:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def works(command: str, server: AgentServer, upstream_url: str) -> None:
    """Run a command at a terminal as it stands there, but for the addresses."""
    ours = command.replace(".venv/bin/chat-agent", f"{sys.executable} -m server")
    ours = ours.replace("curl ", "curl -sS --fail-with-body ", 1).replace(ADDRESS, server.url)
    ours = ours.replace(OLLAMA, upstream_url)
    port = str(free_port() if " serve" in command else httpx.URL(server.url).port)
    with at_terminal(["bash", "-c", ours], API_PORT=port, CHECKPOINT_URL="memory://") as terminal:
        if " serve" in command:
            terminal.until("chat-agent is ready")
            terminal.interrupt()
        elif command == ".venv/bin/chat-agent chat --session mina":
            converse(terminal)
        assert terminal.end() == 0, terminal.text
    match command.split():
        case ["curl", *_] if "python3" in command:
            assert terminal.text == f"{''.join(PIECES)}\n", "text, and no JSON around it"
        case ["curl", *_]:
            assert "/v1/sessions" in command or "".join(PIECES) in terminal.text
        case [_, "serve", *_]:
            pass
        case _:
            comes_piece_by_piece(terminal)


def converse(terminal: Terminal) -> None:
    """Ask a question at the prompt, and leave."""
    terminal.until(">>>")
    terminal.type("My name is Mina.\r")
    terminal.until(PIECES[-1])
    terminal.until(">>>")
    terminal.type("/bye\r")


def comes_piece_by_piece(terminal: Terminal) -> None:
    """The pieces were shown as they came, not at the end."""
    assert "".join(PIECES) in terminal.text
    first, *_, last = (next(at for at, text in terminal.shown if piece.strip() in text) for piece in PIECES)
    assert last - first > PAUSE, "all at once"


@pytest.mark.parametrize("program", [block for block in blocks("README.md", "python") if ADDRESS in block])
def test_f3_every_program_shows_the_answer_as_it_comes(upstream: Upstream, upstream_url: str, program: str) -> None:
    upstream.otherwise = Answer(PIECES, pause=PAUSE)
    with agent_server(ollama_model=MODEL, ollama_base_url=upstream_url, use_mcp_tools=False) as server:
        with at_terminal([sys.executable, "-c", program.replace(ADDRESS, server.url)]) as terminal:
            assert terminal.end() == 0, terminal.text
    comes_piece_by_piece(terminal)


def docker_commands() -> list[list[str]]:
    """The words of every docker command."""
    found = [command for block in blocks("README.md", "bash") for command in commands(block)]
    return [shlex.split(command) for command in found if command.startswith("docker ")]


RUNS = [words for words in docker_commands() if words[1] == "run" and words[-1] == "chat-agent"]


def option(words: list[str], name: str) -> list[str]:
    """The values of one option."""
    return [value for flag, value in pairwise(words) if flag == name]


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(words, id=option(words, "-e")[-1], marks=pytest.mark.nightly if number else ())
        for number, words in enumerate(RUNS)
    ],
)
def test_f10_a_container_is_run_as_the_image_is_made(words: list[str], upstream_url: str) -> None:
    port, (volume,) = only(FINAL, "EXPOSE").text, [only(FINAL, "VOLUME").text]
    given = dict(value.split("=", 1) for value in option(words, "-e"))
    assert {name.lower() for name in given} <= ServerSettings.model_fields.keys()
    assert option(words, "-v") == [f"chat-agent:{volume}"]
    shares_the_network = option(words, "--network") == ["host"]
    assert option(words, "-p") == ([] if shares_the_network else [f"127.0.0.1:{port}:{port}"])
    assert ("API_HOST" in given) is shares_the_network, "nothing but Docker's -p guards the port"
    host = httpx.URL(given["OLLAMA_BASE_URL"]).host
    added = [value.partition("=")[2] for value in words if value.startswith("--add-host")]
    assert added == (["host.docker.internal:host-gateway"] if host == "host.docker.internal" else [])
    assert shares_the_network or host not in ("localhost", "127.0.0.1"), "which is the container itself"
    image = {name: value for name, value in variables(FINAL).items() if name.lower() in ServerSettings.model_fields}
    here = {"OLLAMA_BASE_URL": upstream_url, "CHECKPOINT_URL": "memory://", "USE_MCP_TOOLS": "false"}
    with serving("serve", **image | given | here) as (_, server):
        assert server.client().models.list().data[0].id == given["OLLAMA_MODEL"]


def test_f10_the_containers_know_each_other() -> None:
    (network,) = {words[-1] for words in docker_commands() if words[1:3] == ["network", "create"]}
    (ollama,) = (words for words in docker_commands() if words[-1] == "ollama/ollama")
    (beside,) = (words for words in RUNS if option(words, "--network") == [network])
    assert option(ollama, "--network") == [network]
    address = next(value for value in option(beside, "-e") if value.startswith("OLLAMA_BASE_URL"))
    assert address == f"OLLAMA_BASE_URL=http://{option(ollama, '--name')[0]}:11434/v1"
    (talk,) = (words for words in docker_commands() if words[1] == "exec" and words[-1] == "chat")
    assert talk[2:] == ["-it", *option(beside, "--name"), "chat-agent", "chat"]
    (build,) = (words for words in docker_commands() if words[1] == "build")
    assert option(build, "-t") == [RUNS[0][-1]]


def refused(server: AgentServer, model: str) -> str:
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
    return str(server.post(body).json()["error"]["message"])


def told_without_settings(_: Upstream) -> str:
    return run("serve").stderr


def told_of_a_misspelt_name(_: Upstream) -> str:
    Path(".env").write_text(
        "OLLAMA_MODEL=m\nOLLAMA_BASE_URL=http://h/v1\nOLAMA_BASE_URL=http://h/v1\nAPI_HOST=x.invalid\n"
    )
    return run("serve").stderr


def told_of_a_taken_port(_: Upstream) -> str:
    with agent_server(ollama_base_url="http://h/v1", use_mcp_tools=False) as server:
        port = server.url.rpartition(":")[2]
        return run("serve", "--port", port, OLLAMA_MODEL="m", OLLAMA_BASE_URL="http://h/v1").stderr


def told_without_an_endpoint(_: Upstream) -> str:
    with agent_server(ollama_base_url=f"http://127.0.0.1:{free_port()}/v1", use_mcp_tools=False) as server:
        return refused(server, "test-model")


def told_of_a_long_conversation(upstream: Upstream) -> str:
    upstream.otherwise = Answer(status=400, error="This model's maximum context length is 4096 tokens.")
    return asked_of(upstream, "test-model")


def told_of_a_model_that_is_not_there(upstream: Upstream) -> str:
    upstream.otherwise = Answer(status=404, error='model "test-model" not found, try pulling it first')
    return asked_of(upstream, "test-model")


def told_of_another_address(upstream: Upstream) -> str:
    upstream.otherwise = Answer(status=404, error="404 page not found")
    return asked_of(upstream, "test-model")


def told_of_a_model_without_tools(upstream: Upstream) -> str:
    refusal = Answer(status=400, error="test-model does not support tools")
    upstream.otherwise = lambda request: refusal if request.get("tools") else Answer(["Hello."])
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
    question = {"model": "test-model", "messages": [{"role": "user", "content": "hello"}], "tools": [tool]}
    with served(upstream.app) as url:
        settings = {"OLLAMA_MODEL": "test-model", "OLLAMA_BASE_URL": f"{url}/v1", "USE_MCP_TOOLS": "false"}
        with serving("serve", **settings) as (command, server):
            assert server.post(question).status_code == 200
    return command.output


def told_of_an_unknown_model(upstream: Upstream) -> str:
    return asked_of(upstream, "llama3.2")


def asked_of(upstream: Upstream, model: str, **settings: object) -> str:
    with (
        served(upstream.app) as url,
        agent_server(ollama_base_url=f"{url}/v1", use_mcp_tools=False, **settings) as server,
    ):
        return refused(server, model)


def told_of_a_tool_server_that_is_off(_: Upstream) -> str:
    nobody = f"http://127.0.0.1:{free_port()}"
    with serving("serve", OLLAMA_MODEL="m", OLLAMA_BASE_URL=f"{nobody}/v1", MCP_BASE_URL=nobody) as (command, server):
        httpx.get(f"{server.url}/ready", timeout=30)
    return command.output


def told_of_a_wrong_key(_: Upstream) -> str:
    with agent_server(ollama_base_url="http://h/v1", use_mcp_tools=False, api_keys=("right",)) as server:
        return httpx.get(f"{server.url}/v1/models", headers={"Authorization": "Bearer wrong"}).text


def told_without_a_server(_: Upstream) -> str:
    port = str(free_port())
    return run("chat", "-q", "hi", API_PORT=port).stderr.replace(f"http://127.0.0.1:{port}", ADDRESS)


def told_of_another_encoding(_: Upstream) -> str:
    Path(".env").write_bytes("SYSTEM_PROMPT=안녕".encode("cp949"))
    return run("serve").stderr


TOLD: Mapping[str, Callable[[Upstream], str]] = {
    "ERROR: Missing required environment variables": told_without_settings,
    "WARNING: OLAMA_BASE_URL in .env is not a setting; did you mean OLLAMA_BASE_URL?": told_of_a_misspelt_name,
    "address already in use": told_of_a_taken_port,
    "The model endpoint cannot be reached.": told_without_an_endpoint,
    "The model endpoint does not have the model": told_of_a_model_that_is_not_there,
    "OLLAMA_BASE_URL may name another address than that of its API": told_of_another_address,
    "takes no tools; going on without them": told_of_a_model_without_tools,
    "The conversation is longer than the model's context": told_of_a_long_conversation,
    "MCP server 'mcp' cannot be reached": told_of_a_tool_server_that_is_off,
    "The model `llama3.2` does not exist": told_of_an_unknown_model,
    "Incorrect API key provided.": told_of_a_wrong_key,
    "No chat-agent answers at http://127.0.0.1:23000.": told_without_a_server,
    ".env is not UTF-8": told_of_another_encoding,
}


def quoted(readme: str) -> list[str]:
    """What the table of troubles quotes, row by row."""
    table = re.split(r"^## (?:Troubleshooting|문제 해결)$", text_of(readme), flags=re.MULTILINE)[1].partition("\n## ")[
        0
    ]
    return [row.strip("`") for row in re.findall(r"^\| (`.*`) \|", table, re.MULTILINE)]


def test_f11_every_error_that_is_quoted_is_tried() -> None:
    for readme in READMES:
        assert quoted(readme) == list(TOLD)


@pytest.mark.parametrize("quotation", TOLD)
def test_f11_an_error_is_quoted_as_the_server_says_it(quotation: str, upstream: Upstream) -> None:
    assert quotation in TOLD[quotation](upstream)


def test_f11_what_a_user_of_the_guide_is_told_is_so(upstream: Upstream, upstream_url: str) -> None:
    defaults = ServerSettings.model_fields
    assert (defaults["api_port"].default, defaults["api_host"].default) == (23000, "127.0.0.1")
    for names in ("OLLAMA_MODEL", "OLLAMA_BASE_URL", "TEMPERATURE", "USE_MCP_TOOLS", "MCP_BASE_URL"):
        assert names.lower() in defaults
    port = str(free_port())
    guide = {"OLLAMA_MODEL": "your-model", "OLLAMA_BASE_URL": upstream_url, "USE_MCP_TOOLS": "false"}
    with serving("serve", "--port", port, **guide, API_PORT=port, MODEL_ALIASES="llama3.2=your-model") as (_, server):
        assert server.url.endswith(f":{port}")
        assert (
            server.client()
            .chat.completions.create(model="llama3.2", messages=[{"role": "user", "content": "hi"}])
            .choices[0]
            .message.content
        )
        assert "does not exist" in refused(server, "another")
    with agent_server(ollama_base_url=upstream_url, use_mcp_tools=False, model_aliases="*=test-model") as server:
        server.client().chat.completions.create(model="any", messages=[{"role": "user", "content": "hi"}])
    assert [request["model"] for request in upstream.requests] == ["your-model", "test-model"]
