"""Settings as people and programs write them: forms that are understood, mistakes that are named."""

import errno
import re
import socket
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from server.command.address import AddressError, require_free_address
from server.command.flags import COMMON, FIELDS, FLAGS
from server.command.mistakes import near_misses, unusable
from server.command.screens import address, without_password
from server.http.key_file import KeysError
from server.settings import ServerSettings
from tests.support.agent_server import MODEL
from tests.support.command import run
from tests.support.loopback import free_port
from tools.bundled.settings import ToolSettings
from tools.environment import listed, tidy

ENDPOINT = {"OLLAMA_MODEL": MODEL, "OLLAMA_BASE_URL": "http://127.0.0.1:1/v1"}


def settings(**values: Any) -> ServerSettings:
    return ServerSettings(**{name.lower(): value for name, value in {**ENDPOINT, **values}.items()})


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        pytest.param("llama3.2", "llama3.2", id="plain"),
        pytest.param("llama3.2 ", "llama3.2", id="a space at the end"),
        pytest.param("llama3.2\r", "llama3.2", id="the line end of another system"),
        pytest.param('"llama3.2 "', "llama3.2", id="a space within quotes"),
        pytest.param("'llama3.2'", "llama3.2", id="quotes that docker --env-file leaves"),
        pytest.param("llama3.2  # small", "llama3.2", id="a comment that docker --env-file leaves"),
        pytest.param('"llama3.2" # small', "llama3.2", id="quotes and a comment"),
        pytest.param("a#b", "a#b", id="a hash that begins no comment"),
        pytest.param('"', '"', id="one quote alone"),
        pytest.param('"a" and "b"', '"a" and "b"', id="two quotations"),
        pytest.param("''", "", id="nothing in quotes"),
    ],
)
def test_f7_a_value_is_what_is_meant(written: str, meant: str) -> None:
    assert tidy(written) == meant


def test_f7_a_hash_in_the_prompt_begins_no_comment() -> None:
    assert settings(SYSTEM_PROMPT="Use # for headings.").system_prompt == "Use # for headings."


@pytest.mark.parametrize(
    ("written", "items"),
    [
        pytest.param("a,b", ("a", "b"), id="commas"),
        pytest.param(" a , ,b, ", ("a", "b"), id="blanks and nothing between"),
        pytest.param('["a"]', ("a",), id="JSON of one"),
        pytest.param('["a", "b,c"]', ("a", "b,c"), id="JSON with a comma inside"),
        pytest.param("[a, b]", ("a", "b"), id="JSON whose quotes a shell took"),
        pytest.param("['a', 'b']", ("a", "b"), id="a list of Python"),
        pytest.param('"a","b"', ("a", "b"), id="each in quotes"),
        pytest.param("[]", (), id="JSON of none"),
        pytest.param("[1, 2]", ("1", "2"), id="numbers"),
    ],
)
def test_f7_a_list_is_read_in_every_form(written: str, items: tuple[str, ...]) -> None:
    assert listed(written) == items
    assert settings(MODELS=written).models == items
    assert tuple(key.get_secret_value() for key in settings(API_KEYS=written).api_keys) == items


@pytest.mark.parametrize("written", ["gpt-4o=llama3.2,*=x", '{"gpt-4o": "llama3.2", "*": "x"}'])
def test_f7_aliases_may_be_json(written: str) -> None:
    assert settings(MODEL_ALIASES=written).model_aliases == {"gpt-4o": "llama3.2", "*": "x"}


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"\xef\xbb\xbfOLLAMA_MODEL=m\nOLLAMA_BASE_URL=http://h/v1\n", id="byte order mark"),
        pytest.param(b"OLLAMA_MODEL=m\r\nOLLAMA_BASE_URL=http://h/v1\r\n", id="line ends of another system"),
        pytest.param(b"export OLLAMA_MODEL=m\nexport OLLAMA_BASE_URL=http://h/v1\n", id="export"),
        pytest.param(b'OLLAMA_MODEL="m "\nOLLAMA_BASE_URL="http://h/v1 "\n', id="spaces within quotes"),
        pytest.param(b"OLLAMA_MODEL=m # small\nOLLAMA_BASE_URL='http://h/v1' # here\n", id="comments"),
        pytest.param(b"ollama_model = m\nOllama_Base_Url = http://h/v1\n", id="lower case and blanks"),
    ],
)
def test_f7_an_env_file_is_read_however_it_was_saved(content: bytes) -> None:
    Path(".env").write_bytes(content)
    read = ServerSettings()
    assert (read.ollama_model, read.ollama_base_url) == ("m", "http://h/v1")


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("TEMPERATURE", "0,7", "cannot be '0,7': it is not a number; write 0.7. It is: Sampling temperature, 0 to 2."),
        ("TEMPERATURE", "3", "cannot be '3': it must be less than or equal to 2"),
        ("API_PORT", "tcp://10.0.0.1:80", "cannot be 'tcp://10.0.0.1:80': it is not a whole number"),
        ("API_PORT", "80.5", "cannot be '80.5': it is not a whole number"),
        ("API_PORT", "-1", "cannot be '-1': it must be greater than or equal to 0"),
        ("RUN_TIMEOUT", "0", "cannot be '0': it must be greater than 0"),
        ("RUN_TIMEOUT", "5m", "cannot be '5m': it is not a number"),
        ("USE_MCP_TOOLS", "ja", "cannot be 'ja': it is neither true nor false"),
        ("API_HOST", "http://0.0.0.0", "it is a name or an address alone"),
        ("API_HOST", "0.0.0.0:8000", "the port is API_PORT"),
        ("API_HOST", "*", "0.0.0.0 for every interface"),
        ("CHECKPOINT_URL", "mysql://u:secret@h/d", "cannot be 'mysql://h/d': sessions are kept in SQLite"),
        (
            "CHECKPOINT_URL",
            "data.db",
            "sqlite:///relative.db, sqlite:////absolute.db, postgresql://user:password@host/database or memory://",
        ),
        ("CHECKPOINT_URL", "redis://:secret@h", "use PostgreSQL, written as below"),
        ("CHECKPOINT_URL", "sqlite://data.db", "sqlite:///relative.db"),
        ("OLLAMA_BASE_URL", "localhost:11434", "cannot be 'localhost:11434': it is not an http or https address"),
        ("MODEL_ALIASES", "gpt-4o", "name=model"),
    ],
)
def test_f7_a_value_that_cannot_be_used_is_said_with_what_it_may_be(name: str, value: str, sentence: str) -> None:
    with pytest.raises(ValidationError) as raised:
        settings(**{name: value})
    said = unusable(ServerSettings, raised.value.errors())
    assert said.startswith(f"ERROR: {name} cannot be ")
    assert sentence in said
    assert "secret" not in said
    assert not re.search(r"\^|\[type=|pattern|Input should", said), "no pydantic, no regular expression"


def test_f7_the_value_of_a_secret_is_never_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OLLAMA_API_KEY")
    with pytest.raises(ValidationError) as raised:
        settings(OLLAMA_API_KEY="열쇠")
    said = unusable(ServerSettings, raised.value.errors())
    assert said.startswith("ERROR: OLLAMA_API_KEY has a value that cannot be used: ")
    assert "열쇠" not in said


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("http://user:word@host/v1", "http://host/v1"),
        ("http://user:w/or@d@host/v1", "http://host/v1"),
        ("http://host/v1", "http://host/v1"),
        ("@cf/meta/llama", "@cf/meta/llama"),
    ],
)
def test_f7_no_password_is_shown(written: str, shown: str) -> None:
    assert without_password(written) == shown


def test_f7_a_wrong_value_says_where_it_was_read() -> None:
    Path(".env").write_text("TEMPERATURE=hot\n")
    assert "ERROR: TEMPERATURE in .env cannot be 'hot'" in run("serve", **ENDPOINT).stderr
    assert "ERROR: TEMPERATURE in the environment cannot be" in run("serve", **ENDPOINT, TEMPERATURE="warm").stderr
    assert "ERROR: TEMPERATURE (--temperature) cannot be" in run("serve", "--temperature", "x", **ENDPOINT).stderr


@pytest.mark.parametrize(
    ("host", "said"),
    [
        pytest.param(
            "my-server.invalid",
            "API_HOST is 'my-server.invalid', a name that this machine does not know",
            id="unknown name",
        ),
        pytest.param("192.0.2.1", "no address of this machine; set API_HOST to 127.0.0.1", id="another machine's"),
    ],
)
def test_f7_a_host_that_cannot_be_listened_on_is_the_hosts_fault(host: str, said: str) -> None:
    with pytest.raises(AddressError, match=re.escape(said)):
        require_free_address(host, free_port(), of="API")


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_f7_a_port_in_use_is_the_ports_fault(name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        with pytest.raises(
            AddressError, match=r"address already in use; another program listens there; .* set MCP_PORT"
        ):
            require_free_address(name, taken.getsockname()[1], of="MCP")


def test_f7_each_reason_of_the_system_has_an_advice() -> None:
    from server.command.address import refusal

    assert "set API_PORT to another port" in refusal("h", 80, OSError(errno.EACCES, "Permission denied"), "API")
    assert "set API_HOST and API_PORT" in refusal("h", 80, OSError(errno.EIO, "I/O error"), "API")


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("0.0.0.0", "http://127.0.0.1:23000"),
        ("::", "http://[::1]:23000"),
        ("[::1]", "http://[::1]:23000"),
        ("h", "http://h:23000"),
    ],
)
def test_f7_the_address_that_is_shown_can_be_opened(host: str, url: str) -> None:
    assert address(settings(API_HOST=host)) == url


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("TEMPERTURE", "TEMPERATURE"),
        ("OLAMA_BASE_URL", "OLLAMA_BASE_URL"),
        ("OLLAMA_BASEURL", "OLLAMA_BASE_URL"),
        ("OLLAMA-BASE-URL", "OLLAMA_BASE_URL"),
        ("OLLAMA_URL", "OLLAMA_BASE_URL"),
        ("OLLAMA_MODEL_NAME", "OLLAMA_MODEL"),
        ("ollama_modle", "OLLAMA_MODEL"),
        ("OLLAMA_KEY", "OLLAMA_API_KEY"),
        ("API_KEY", "API_KEYS"),
        ("CORS_ORIGIN", "CORS_ORIGINS"),
        ("CHECKPOINT_URI", "CHECKPOINT_URL"),
        ("MCP_CONFIG_PATH", "MCP_CONFIG"),
        ("SESION_TTL", "SESSION_TTL"),
        ("SYSTEM_PROMT", "SYSTEM_PROMPT"),
    ],
)
def test_f6_a_name_that_is_nearly_a_setting_is_named(name: str, near: str) -> None:
    assert near_misses([name]) == {name: near}


@pytest.mark.parametrize(
    "name",
    [
        *(
            "PATH",
            "PORT",
            "HOST",
            "TOKEN",
            "OPENAI_API_KEY",
            "OPENAI_BASE_URL",
            "DATABASE_URL",
            "GITHUB_TOKEN",
            "LOG_LEVEL",
        ),
        *(
            "OLLAMA_NUM_PARALLEL",
            "OLLAMA_KEEP_ALIVE",
            "HF_HOME",
            "LANGSMITH_API_KEY",
            "POSTGRES_URL",
            "SECRET_KEY",
            "TZ",
        ),
        *FIELDS,
        *(name.upper() for name in FIELDS),
    ],
)
def test_f6_a_name_of_another_program_or_of_ours_is_not(name: str) -> None:
    assert near_misses([name]) == {}


def test_f6_misspelt_names_are_warned_of_at_the_start() -> None:
    Path("servers.json").write_text('{"mcpServers": {"x": {"command": "c", "env": {"K": "${OLLAMA_API_KEI}"}}}}')
    Path(".env").write_text("TEMPERTURE=0\nSECRET=1\nOLLAMA_API_KEI=for-x\nMCP_CONFIG=servers.json\nAPI_PORT=no\n")
    with socket.create_server(("127.0.0.1", 0)) as taken:  # so that it ends after its warnings
        port = str(taken.getsockname()[1])
        ended = run("serve", **ENDPOINT, API_PORT=port, OLLAMA_MODELS="/models", API_KEY="x", MAX_TOOLS_ROUNDS="3")
    *warnings, error = ended.stderr.splitlines()
    assert warnings == [
        "WARNING: TEMPERTURE in .env is not a setting; did you mean TEMPERATURE?",
        "WARNING: MAX_TOOLS_ROUNDS in the environment is not a setting; did you mean MAX_TOOL_ROUNDS?",
    ]
    assert error.startswith("ERROR: ")


def test_f6_what_is_missing_in_an_env_file_that_is_there_is_said_so() -> None:
    Path(".env").write_text("OLLAMA_MODEL=m\nOLAMA_BASE_URL=http://h/v1\n")
    ended = run("serve")
    assert ended.returncode == 1
    assert "  - OLLAMA_BASE_URL: " in ended.stderr
    assert "create a .env" not in ended.stderr
    assert f"There is {Path('.env').resolve()}, which does not set them" in ended.stderr
    assert "OLAMA_BASE_URL in it is not a setting; did you mean OLLAMA_BASE_URL?" in ended.stderr


def test_f7_an_env_file_that_cannot_be_used_is_one_line() -> None:
    Path(".env").write_bytes("OLLAMA_MODEL=m\n".encode("utf-16"))
    assert run("serve").stderr == "ERROR: .env is not UTF-8; save it in that encoding.\n"


def test_f5_flags_win_over_the_environment_which_wins_over_the_file() -> None:
    Path(".env").write_text("OLLAMA_MODEL=file\nTEMPERATURE=0.1\nAPI_PORT=1\n")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = run("serve", "--port", port, OLLAMA_BASE_URL="http://h/v1", API_PORT="2")
    assert f"127.0.0.1:{port} cannot be used" in ended.stderr


def test_f5_every_flag_is_a_setting_and_its_help_is_the_settings_own() -> None:
    assert FLAGS.keys() <= FIELDS.keys()
    for command, names in COMMON.items():
        shown = " ".join(run(command, "--help").stdout.split())
        for name in names:
            assert f"{FLAGS[name]} {name.upper()}" in shown
            assert str(FIELDS[name].description) in shown


@pytest.mark.parametrize("command", [(), ("serve",), ("demo",), ("chat",), ("mcp",)])
def test_f5_help_shows_the_default_of_every_setting_and_no_secret(command: tuple[str, ...]) -> None:
    shown = run(*command, "--help").stdout
    for kind in (ServerSettings, ToolSettings):
        for name, field in kind.model_fields.items():
            (line,) = re.findall(rf"^  {name.upper()} +(.*)$", shown, re.MULTILINE)
            if field.is_required():
                assert line.endswith("(required)")
            elif isinstance(field.default, (int, float, bool)):
                assert "(default: " in line
    assert "(default: 23000)" in shown
    assert "(default: true)" in shown
    assert "ollama)" not in shown


@pytest.mark.parametrize(
    "given",
    [
        {"API_KEYS": "Changeme", "API_HOST": "0.0.0.0"},
        {"API_KEYS": f"sha256:{sha256(b'secret').hexdigest()}", "API_HOST": "::"},
        {"API_KEYS": "a-good-key,test", "TRUSTED_PROXIES": "10.0.0.1"},
        {"API_KEYS": "a-good-key", "METRICS_KEY": "secret", "API_HOST": "192.168.0.10"},
    ],
)
def test_a_key_that_everybody_knows_is_for_this_machine_alone(given: dict[str, str]) -> None:
    with pytest.raises(KeysError, match="an example that everybody knows"):
        settings(**given).keys()
    alone = {name: value for name, value in given.items() if name.endswith(("KEYS", "KEY"))}
    assert settings(**alone).keys()
