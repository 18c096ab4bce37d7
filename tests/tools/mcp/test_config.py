"""Which MCP servers a configuration means, and what it says when it means none."""

import asyncio
import json
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from graph.assembly import mcp_servers
from graph.settings import AgentSettings
from tools.mcp.config import PROJECT, McpConfigError, bundled_server, load_servers, parse_json
from tools.mcp.connections import fallbacks, greeted
from tools.mcp.http import McpHttpClient
from tools.mcp.pending import Pending
from tools.mcp.spec import HttpAddress, ServerSpec, StdioAddress, Unusable

Entry = dict[str, Any]


def written(path: Path, servers: object) -> Path:
    path.write_text(json.dumps({"mcpServers": servers}), encoding="utf-8")
    return path


def spec(path: Path, entry: object, *, verify_ssl: bool = True) -> ServerSpec:
    """The server that a file with this one entry means."""
    return load_servers(written(path, {"one": entry}), verify_ssl=verify_ssl)["one"]


def stdio(path: Path, entry: object) -> StdioAddress:
    address = spec(path, entry).address
    assert isinstance(address, StdioAddress), address
    return address


def http(path: Path, entry: object, *, verify_ssl: bool = True) -> HttpAddress:
    address = spec(path, entry, verify_ssl=verify_ssl).address
    assert isinstance(address, HttpAddress), address
    return address


def refused(path: Path, entry: object) -> str:
    address = spec(path, entry).address
    assert isinstance(address, Unusable), address
    return address.reason


def write_self_signed_certificate(path: Path) -> None:
    """Write a certificate for 127.0.0.1 that nobody vouches for, and its key."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .sign(key, SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(certificate.public_bytes(Encoding.PEM) + private)


@asynccontextmanager
async def tls_server(certificate: Path) -> AsyncIterator[str]:
    """An https server behind a self-signed certificate, which answers every request with "ok"."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        await writer.drain()
        writer.close()

    write_self_signed_certificate(certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    async with await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context) as server:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "mcp.json"


@pytest.mark.parametrize(
    ("entry", "means"),
    [
        ({"command": "uvx"}, StdioAddress(command="uvx")),
        (
            {"command": "uvx", "args": ["server", 8080, "--verbose", True], "env": {"DEBUG": 1}, "cwd": "data"},
            StdioAddress(
                command="uvx", args=("server", "8080", "--verbose", "true"), env={"DEBUG": "1"}, cwd=Path("data")
            ),
        ),
        ({"type": "stdio", "command": "uvx", "env": None}, StdioAddress(command="uvx")),
        ({"type": None, "command": "uvx"}, StdioAddress(command="uvx")),
        ({"command": "uvx", "env": {"UNSET": None, "EMPTY": ""}}, StdioAddress(command="uvx", env={"EMPTY": ""})),
        (
            {"command": {"path": "uvx", "args": ["a"], "env": {"A": "1"}}},
            StdioAddress(command="uvx", args=("a",), env={"A": "1"}),
        ),
        (
            {"type": "local", "command": ["uvx", "a"], "environment": {"A": "1"}, "enabled": True},
            StdioAddress(command="uvx", args=("a",), env={"A": "1"}),
        ),
        ({"command": "uvx", "autoApprove": ["x"], "alwaysAllow": [], "disabled": False}, StdioAddress(command="uvx")),
    ],
)
def test_a_command_is_a_server_over_stdio(path: Path, entry: Entry, means: StdioAddress) -> None:
    assert stdio(path, entry) == means


KINDS = ("http", "streamable_http", "streamable-http", "streamableHttp", "StreamableHTTP", "remote")


@pytest.mark.parametrize("kind", [{}, *({key: name} for key in ("type", "transport") for name in KINDS)], ids=str)
@pytest.mark.parametrize("key", ["url", "serverUrl", "httpUrl"])
def test_m16_a_url_is_a_server_over_streamable_http_however_it_is_written(path: Path, key: str, kind: Entry) -> None:
    address = http(path, {key: "https://example.org/tools/mcp", "headers": {"X-Key": "k", "X-Number": 5}, **kind})
    assert address == HttpAddress(url="https://example.org/tools/mcp", headers={"X-Key": "k", "X-Number": "5"})


@pytest.mark.parametrize("kind", [{"type": "sse"}, {"transport": "sse"}, {"type": "SSE"}], ids=str)
def test_m16_a_server_may_speak_the_older_transport(path: Path, kind: Entry) -> None:
    assert http(path, {"url": "https://example.org/sse", **kind}).transport == "sse"


def test_every_server_keeps_its_name_and_its_place(path: Path) -> None:
    servers = {"zeta": {"command": "z"}, "alpha": {"url": "http://a"}, "이름": {"command": "n"}}
    assert list(load_servers(written(path, servers), verify_ssl=True)) == ["zeta", "alpha", "이름"]


def test_no_servers_are_no_connections(path: Path) -> None:
    assert load_servers(written(path, {}), verify_ssl=True) == {}


def test_a_disabled_server_is_left_out_even_if_it_could_not_be_used(path: Path) -> None:
    servers = {
        "off": {"disabled": True, "url": "https://${NOT_SET}"},
        "empty": {"disabled": True},
        "not enabled": {"enabled": False, "command": "uvx"},
        "on": {"disabled": False, "enabled": True, "command": "uvx"},
    }
    assert list(load_servers(written(path, servers), verify_ssl=True)) == ["on"]


FILES = {
    "Claude Desktop": '{"mcpServers": {"one": {"command": "npx", "args": ["-y", "x"]}}}',
    "VS Code": '{"inputs": [], "servers": {"one": {"type": "stdio", "command": "npx", "args": ["-y", "x"]}}}',
    "VS Code's settings": '{"mcp": {"inputs": [], "servers": {"one": {"command": "npx", "args": ["-y", "x"]}}}}',
    "Zed": '{"context_servers": {"one": {"source": "custom", "command": "npx", "args": ["-y", "x"]}}}',
    "opencode": '{"mcp": {"one": {"type": "local", "command": ["npx", "-y", "x"]}}}',
    "Gemini CLI": """{"mcp": {"allowed": ["one"]},
      "mcpServers": {"one": {"command": "npx", "args": ["-y", "x"], "trust": true}}}""",
    "comments": """{
      // one "line"
      "mcpServers": { /* several
        lines */ "one": {"command": "npx", "args": ["-y", "x",], }, // the end
      },
    }""",
    "a BOM": '\ufeff{"mcpServers": {"one": {"command": "npx", "args": ["-y", "x"]}}}',
}


@pytest.mark.parametrize("text", FILES.values(), ids=FILES)
def test_m16_files_of_other_hosts_are_understood(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    servers = load_servers(path, verify_ssl=True)
    assert {name: server.address for name, server in servers.items()} == {
        "one": StdioAddress(command="npx", args=("-y", "x"))
    }


def test_m16_a_file_may_be_utf_16_as_windows_writes_it(path: Path) -> None:
    path.write_text('{"mcpServers": {"날씨": {"command": "run"}}}', encoding="utf-16")
    assert list(load_servers(path, verify_ssl=True)) == ["날씨"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": "http://x/y", /* "b" */ "c": "/* no */"}', {"a": "http://x/y", "c": "/* no */"}),
        ('["a\\"//b", 1,]', ['a"//b', 1]),
        ('["a,]", "b,}"]', ["a,]", "b,}"]),
        ('{"a": [1, 2, ], }', {"a": [1, 2]}),
        ('// only\n{"a": 1} // this', {"a": 1}),
    ],
)
def test_m16_comments_and_commas_are_told_from_text(text: str, value: object) -> None:
    assert parse_json(text) == value


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("${SET}", "value"),
        ("a-${SET}-b-${SET}", "a-value-b-value"),
        ("${SET:-default}", "value"),
        ("${UNSET_FOR_TEST:-default}", "default"),
        ("${UNSET_FOR_TEST:-}", ""),
        ("${UNSET_FOR_TEST:-http://localhost:1/}", "http://localhost:1/"),
        ("${EMPTY:-default}", ""),
        ("${env:SET}", "value"),
        ("Bearer ${env:SET}", "Bearer value"),
        ("${env:UNSET_FOR_TEST:-default}", "default"),
        ("${input:chosen}", "of the file"),
        ("${workspaceFolder}/a", "{folder}/a"),
        ("${userHome}", "{home}"),
        ("~/a", "{home}/a"),
        ("a~/b", "a~/b"),
        ("$SET", "$SET"),
        ("${}", "${}"),
        ("${SET%x}", "${SET%x}"),
    ],
)
def test_m16_variables_are_replaced(path: Path, monkeypatch: pytest.MonkeyPatch, text: str, means: str) -> None:
    monkeypatch.setenv("SET", "value")
    monkeypatch.setenv("EMPTY", "")
    monkeypatch.delenv("UNSET_FOR_TEST", raising=False)
    inputs = [{"id": "chosen", "type": "promptString", "default": "of the file"}, {"id": "asked", "password": True}]
    path.write_text(json.dumps({"inputs": inputs, "servers": {"one": {"command": "run", "args": [text]}}}))
    address = load_servers(path, verify_ssl=True)["one"].address
    assert isinstance(address, StdioAddress)
    assert address.args == (means.replace("{folder}", str(path.parent)).replace("{home}", str(Path.home())),)


def test_m16_the_workspace_is_the_folder_above_a_hosts_own(tmp_path: Path) -> None:
    (tmp_path / ".vscode").mkdir()
    assert stdio(tmp_path / ".vscode" / "mcp.json", {"command": "${workspaceFolder}/run"}).command == f"{tmp_path}/run"


def test_variables_are_replaced_everywhere_in_an_entry(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLACE", "example.org")
    monkeypatch.setenv("TOKEN", "secret")
    entry = {"url": "https://${PLACE}/mcp", "headers": {"Authorization": "Bearer ${TOKEN}", "X-Key": "$TOKEN"}}
    assert http(path, entry) == HttpAddress(
        url="https://example.org/mcp", headers={"Authorization": "Bearer secret", "X-Key": "secret"}
    )
    entry = {"command": "${PLACE}/run", "env": {"KEY": "${TOKEN}", "B": "$TOKEN", "C": "x$TOKEN"}, "cwd": "${PLACE}"}
    assert stdio(path, entry) == StdioAddress(
        command="example.org/run", env={"KEY": "secret", "B": "secret", "C": "x$TOKEN"}, cwd=Path("example.org")
    )


def test_a_value_is_not_expanded_twice(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "${HOME}")
    assert stdio(path, {"command": "run", "env": {"KEY": "${TOKEN}"}}).env == {"KEY": "${HOME}"}


def test_variables_may_be_in_the_env_file_and_the_environment_wins(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("TOKEN_FOR_TEST=비밀\nPLACE_FOR_TEST=file\n", encoding="utf-8")
    monkeypatch.setenv("PLACE_FOR_TEST", "environment")
    args = ["${TOKEN_FOR_TEST}", "${PLACE_FOR_TEST}"]
    assert stdio(path, {"command": "run", "args": args}).args == ("비밀", "environment")


def test_m16_a_server_may_have_a_file_of_variables(path: Path) -> None:
    (path.parent / "server.env").write_text("# secret\nA=1\nB='two words'\n", encoding="utf-8")
    entry = {"command": "run", "envFile": "${workspaceFolder}/server.env", "env": {"A": "own"}}
    assert stdio(path, entry).env == {"A": "own", "B": "two words"}
    assert "envFile" in refused(path, {"command": "run", "envFile": "nowhere.env"})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("${UNSET_FOR_TEST}", "needs the environment variable UNSET_FOR_TEST."),
        ("${env:UNSET_FOR_TEST}", "needs the environment variable UNSET_FOR_TEST."),
        (
            "${input:key}",
            "asks for the input key, which nobody can be asked for here; write ${env:NAME} in its place.",
        ),
        ("${config:a.b}", "needs the variable config:a.b, which is not known here."),
    ],
)
def test_m16_a_variable_that_is_not_set_is_named_with_its_server(
    path: Path, monkeypatch: pytest.MonkeyPatch, text: str, words: str
) -> None:
    monkeypatch.delenv("UNSET_FOR_TEST", raising=False)
    message = refused(path, {"command": "run", "env": {"KEY": text}})
    assert message == f"MCP_CONFIG: MCP server 'one' {words}"


def test_m16_one_bad_entry_does_not_cost_the_others(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UNSET_FOR_TEST", raising=False)
    servers = load_servers(
        written(path, {"bad": {"command": "${UNSET_FOR_TEST}"}, "good": {"command": "run"}}), verify_ssl=True
    )
    assert [type(server.address) for server in servers.values()] == [Unusable, StdioAddress]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "{}", '{"mcpServers": null}', '{"mcpServers": ["a"]}', '{"a": 1}']
)
def test_a_file_of_another_form_is_refused_with_the_form_that_it_must_have(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    with pytest.raises(McpConfigError) as error:
        load_servers(path, verify_ssl=True)
    assert str(error.value) == f'MCP_CONFIG: {path} must be JSON of the form {{"mcpServers": {{…}}}}.'


def test_a_file_that_is_not_utf_8_is_refused_with_the_form_that_it_must_have(path: Path) -> None:
    path.write_bytes('{"mcpServers": {"날씨": {"command": "run"}}}'.encode("cp949"))
    with pytest.raises(McpConfigError, match="must be JSON of the form"):
        load_servers(path, verify_ssl=True)


def test_a_missing_file_is_named(path: Path) -> None:
    with pytest.raises(McpConfigError) as error:
        load_servers(path, verify_ssl=True)
    assert str(error.value) == f"MCP_CONFIG: {path} cannot be read: No such file or directory."


def test_a_folder_in_place_of_the_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(McpConfigError) as error:
        load_servers(tmp_path, verify_ssl=True)
    assert str(error.value) == f"MCP_CONFIG: {tmp_path} cannot be read: Is a directory."


@pytest.mark.parametrize(
    "entry",
    [
        {},
        None,
        "uvx server",
        [],
        {"command": None},
        {"command": ["uvx"]},
        {"url": 22000},
        {"args": ["server"]},
        {"type": "http", "command": "uvx"},
        {"type": "stdio", "url": "http://example.org"},
    ],
    ids=str,
)
def test_an_entry_that_is_no_server_is_refused_by_name(path: Path, entry: object) -> None:
    assert refused(path, entry) == 'MCP_CONFIG: MCP server \'one\' needs a "command" (stdio) or a "url" (HTTP).'


@pytest.mark.parametrize(
    "entry",
    [
        {"command": "uvx", "args": 5},
        {"command": "uvx", "args": [{}]},
        {"command": "uvx", "env": ["KEY=value"]},
        {"command": "uvx", "disabledTools": "all"},
        {"command": "uvx", "timeout": "soon"},
        {"command": "uvx", "timeout": 0},
        {"url": "http://example.org", "headers": "X-Key: k"},
        {"url": "http://example.org:port"},
        {"transport": "websocket", "url": "ws://example.org"},
        {"type": "carrier pigeon", "url": "http://example.org"},
    ],
    ids=str,
)
def test_a_part_of_an_entry_in_the_wrong_form_is_refused_in_one_line(path: Path, entry: Entry) -> None:
    message = refused(path, entry)
    assert message.startswith("MCP_CONFIG: MCP server 'one' ")
    assert "\n" not in message


@pytest.mark.parametrize(
    "url",
    ["", "localhost:22000", "127.0.0.1", "ftp://example.org", "http://", "/mcp", "http://user:CAN/ARY@example.org"],
)
def test_an_address_that_is_not_http_is_refused_without_repeating_it(path: Path, url: str) -> None:
    expected = "MCP_CONFIG: MCP server 'one' cannot be used: it is not an http or https address."
    assert refused(path, {"url": url}) == expected


@pytest.mark.parametrize(
    ("entry", "offered"),
    [
        ({}, ["read_file", "read_dir", "write_file", "delete"]),
        ({"allowedTools": ["read_*"]}, ["read_file", "read_dir"]),
        ({"disabledTools": ["write_*", "delete"]}, ["read_file", "read_dir"]),
        ({"allowedTools": ["*_file"], "disabledTools": ["write_*"]}, ["read_file"]),
        ({"includeTools": ["delete"]}, ["delete"]),
        ({"excludeTools": ["delete"]}, ["read_file", "read_dir", "write_file"]),
        ({"tools": ["*"]}, ["read_file", "read_dir", "write_file", "delete"]),
        ({"tools": {"delete": False, "read_dir": True}}, ["read_file", "read_dir", "write_file"]),
        ({"allowedTools": []}, []),
        ({"alwaysAllow": ["delete"], "autoApprove": ["delete"]}, ["read_file", "read_dir", "write_file", "delete"]),
    ],
    ids=str,
)
def test_m15_an_entry_says_which_tools_are_offered(path: Path, entry: Entry, offered: list[str]) -> None:
    chosen = spec(path, {"command": "uvx", **entry}).tools
    assert [name for name in ("read_file", "read_dir", "write_file", "delete") if chosen.lets_in(name)] == offered


@pytest.mark.parametrize(
    ("given", "seconds"), [(None, None), (30, 30), (0.5, 0.5), (3600, 3600), (5000, 5), (600_000, 600)]
)
def test_m2_an_entry_says_how_long_a_call_may_take(path: Path, given: object, seconds: float | None) -> None:
    assert spec(path, {"command": "uvx", "timeout": given}).call_timeout == seconds


@pytest.mark.parametrize(
    ("url", "status", "places"),
    [
        ("http://host", 404, [("http://host/mcp", "http"), ("http://host", "sse")]),
        ("http://host/", 405, [("http://host/mcp", "http"), ("http://host/", "sse")]),
        ("http://host?key=1", 404, [("http://host/mcp?key=1", "http"), ("http://host?key=1", "sse")]),
        ("http://host/sse", 405, [("http://host/sse", "sse")]),
        ("http://host/x", 404, [("http://host/x", "sse")]),
        ("http://host", 400, [("http://host", "sse")]),
        ("http://host", 401, []),
        ("http://host", 500, []),
        ("http://host", None, []),
    ],
)
def test_m17_where_else_a_server_may_be(url: str, status: int | None, places: list[tuple[str, str]]) -> None:
    found = fallbacks(HttpAddress(url=url), status)
    assert [(place.url, place.transport) for place in found] == places


def test_m19_an_address_and_a_server_of_the_file_called_mcp_are_two(path: Path) -> None:
    settings = AgentSettings(
        ollama_model="-",
        ollama_base_url="http://localhost",
        mcp_config=written(path, {"mcp": {"command": "a"}, "mcp_2": {"command": "b"}}),
        mcp_base_url="http://localhost:1/mcp",
    )
    assert {name: type(server.address) for name, server in mcp_servers(settings).items()} == {
        "mcp": StdioAddress,
        "mcp_2": StdioAddress,
        "mcp_3": HttpAddress,
    }


@pytest.mark.parametrize("verify_ssl", [True, False])
async def test_certificates_are_verified_unless_that_is_switched_off(path: Path, verify_ssl: bool) -> None:
    async with tls_server(path.parent / "certificate.pem") as url:
        address = http(path, {"url": url}, verify_ssl=verify_ssl)
        async with McpHttpClient(address, Pending()) as client:
            if verify_ssl:
                with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
                    await client.get(url)
            else:
                assert (await client.get(url)).text == "ok"


def test_the_bundled_server_sees_its_settings_and_proxies_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    passed_on = {
        "MCP_PORT": "1",
        "SEARXNG_URL": "http://search",
        "OPEN_METEO_FORECAST_URL": "http://forecast",
        "open_meteo_geocoding_url": "http://geocoding",
        "HTTPS_PROXY": "http://proxy",
        "no_proxy": "localhost",
        "SSL_CERT_FILE": "certificates.pem",
    }
    kept_back = {"OLLAMA_API_KEY": "secret", "API_KEYS": "secret", "AWS_SECRET_ACCESS_KEY": "s", "MY_HTTPS_PROXY": "p"}
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name, value in {**passed_on, **kept_back}.items():
        monkeypatch.setenv(name, value)
    address = bundled_server().address
    assert isinstance(address, StdioAddress)
    assert address.env == passed_on | {"PYTHONPATH": str(PROJECT)}
    assert address.command == sys.executable


async def test_the_bundled_connection_starts_a_server_in_any_folder() -> None:
    address = bundled_server().address
    assert isinstance(address, StdioAddress)
    async with greeted(address) as session:
        assert [tool["name"] for tool in await session.list_all_tools()] == ["get_weather", "search_web"]
