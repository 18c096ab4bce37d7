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
from langchain_mcp_adapters.sessions import create_session

from tools.mcp_config import PROJECT, McpConfigError, bundled_connection, http_connection, load_connections

Entry = dict[str, Any]


def written(path: Path, servers: object) -> Path:
    path.write_text(json.dumps({"mcpServers": servers}), encoding="utf-8")
    return path


def loaded(path: Path, entry: object, *, verify_ssl: bool = True) -> Entry:
    """The connection that a file with this one server means."""
    return dict(load_connections(written(path, {"one": entry}), verify_ssl=verify_ssl)["one"])


def refused(path: Path, entry: object) -> str:
    with pytest.raises(McpConfigError) as error:
        loaded(path, entry)
    return str(error.value)


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
        ({"command": "uvx"}, {"command": "uvx", "args": [], "env": {}, "cwd": None}),
        (
            {"command": "uvx", "args": ["server", 8080, "--verbose"], "env": {"DEBUG": 1}, "cwd": "data"},
            {"command": "uvx", "args": ["server", "8080", "--verbose"], "env": {"DEBUG": "1"}, "cwd": "data"},
        ),
        ({"type": "stdio", "command": "uvx", "env": None}, {"command": "uvx", "args": [], "env": {}, "cwd": None}),
    ],
)
def test_a_command_is_a_server_over_stdio(path: Path, entry: Entry, means: Entry) -> None:
    assert loaded(path, entry) == {"transport": "stdio", **means}


@pytest.mark.parametrize(
    "kind",
    [{}, *({key: name} for key in ("type", "transport") for name in ("http", "streamable_http", "streamable-http"))],
)
def test_a_url_is_a_server_over_streamable_http_whatever_its_transport_is_called(path: Path, kind: Entry) -> None:
    connection = loaded(path, {"url": "https://example.org/tools/mcp", "headers": {"X-Key": "k"}, **kind})
    assert connection["transport"] == "streamable_http"
    assert connection["url"] == "https://example.org/tools/mcp"
    assert connection["headers"] == {"X-Key": "k"}


def test_a_server_without_headers_gets_none(path: Path) -> None:
    assert loaded(path, {"url": "https://example.org/mcp"})["headers"] == {}


def test_header_values_become_text(path: Path) -> None:
    assert loaded(path, {"url": "https://example.org/mcp", "headers": {"X-Number": 5}})["headers"] == {"X-Number": "5"}


def test_every_server_keeps_its_name_and_its_place(path: Path) -> None:
    servers = {"zeta": {"command": "z"}, "alpha": {"url": "http://a"}, "이름": {"command": "n"}}
    assert list(load_connections(written(path, servers), verify_ssl=True)) == ["zeta", "alpha", "이름"]


def test_no_servers_are_no_connections(path: Path) -> None:
    assert load_connections(written(path, {}), verify_ssl=True) == {}


def test_a_disabled_server_is_left_out_even_if_it_could_not_be_used(path: Path) -> None:
    servers = {
        "off": {"disabled": True, "url": "https://${NOT_SET}"},
        "empty": {"disabled": True},
        "on": {"disabled": False, "command": "uvx"},
    }
    assert list(load_connections(written(path, servers), verify_ssl=True)) == ["on"]


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
        ("$SET", "$SET"),
        ("${}", "${}"),
    ],
)
def test_variables_are_replaced_by_the_environment(
    path: Path, monkeypatch: pytest.MonkeyPatch, text: str, means: str
) -> None:
    monkeypatch.setenv("SET", "value")
    monkeypatch.setenv("EMPTY", "")
    monkeypatch.delenv("UNSET_FOR_TEST", raising=False)
    assert loaded(path, {"command": "run", "args": [text]})["args"] == [means]


def test_variables_are_replaced_everywhere_in_an_entry(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLACE", "example.org")
    monkeypatch.setenv("TOKEN", "secret")
    entry = {"url": "https://${PLACE}/mcp", "headers": {"Authorization": "Bearer ${TOKEN}"}}
    connection = loaded(path, entry)
    assert connection["url"] == "https://example.org/mcp"
    assert connection["headers"] == {"Authorization": "Bearer secret"}
    connection = loaded(path, {"command": "${PLACE}/run", "env": {"KEY": "${TOKEN}"}, "cwd": "${PLACE}"})
    assert (connection["command"], connection["env"], connection["cwd"]) == (
        "example.org/run",
        {"KEY": "secret"},
        "example.org",
    )


def test_variables_may_be_in_the_env_file_and_the_environment_wins(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("TOKEN_FOR_TEST=비밀\nPLACE_FOR_TEST=file\n", encoding="utf-8")
    monkeypatch.setenv("PLACE_FOR_TEST", "environment")
    args = ["${TOKEN_FOR_TEST}", "${PLACE_FOR_TEST}"]
    assert loaded(path, {"command": "run", "args": args})["args"] == ["비밀", "environment"]


def test_a_variable_that_is_not_set_is_named_with_its_server(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UNSET_FOR_TEST", raising=False)
    message = refused(path, {"command": "run", "env": {"KEY": "${UNSET_FOR_TEST}"}})
    assert message == "MCP_CONFIG: MCP server 'one' needs the environment variable UNSET_FOR_TEST."


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"mcpServers": null}', '{"mcpServers": ["a"]}'])
def test_a_file_of_another_form_is_refused_with_the_form_that_it_must_have(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    with pytest.raises(McpConfigError) as error:
        load_connections(path, verify_ssl=True)
    assert str(error.value) == f'MCP_CONFIG: {path} must be JSON of the form {{"mcpServers": {{…}}}}.'


def test_a_file_that_is_not_utf_8_is_refused_with_the_form_that_it_must_have(path: Path) -> None:
    path.write_bytes('{"mcpServers": {"날씨": {"command": "run"}}}'.encode("cp949"))
    with pytest.raises(McpConfigError, match="must be JSON of the form"):
        load_connections(path, verify_ssl=True)


def test_a_missing_file_is_named(path: Path) -> None:
    with pytest.raises(McpConfigError) as error:
        load_connections(path, verify_ssl=True)
    assert str(error.value) == f"MCP_CONFIG: {path} cannot be read: No such file or directory."


def test_a_folder_in_place_of_the_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(McpConfigError) as error:
        load_connections(tmp_path, verify_ssl=True)
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
        {"type": "sse", "url": "http://example.org/sse"},
        {"transport": "sse", "url": "http://example.org/sse"},
        {"transport": "websocket", "url": "ws://example.org"},
        {"type": None, "url": "http://example.org"},
    ],
)
def test_an_entry_that_is_no_server_is_refused_by_name(path: Path, entry: object) -> None:
    expected = 'MCP_CONFIG: MCP server \'one\' needs a "command" (stdio) or a "url" (streamable HTTP).'
    assert refused(path, entry) == expected


@pytest.mark.parametrize(
    "entry",
    [
        {"command": "uvx", "args": 5},
        {"command": "uvx", "env": ["KEY=value"]},
        {"url": "http://example.org", "headers": "X-Key: k"},
        {"url": "http://example.org:port"},
    ],
    ids=str,
)
def test_a_part_of_an_entry_in_the_wrong_form_is_refused_in_one_line(path: Path, entry: Entry) -> None:
    assert "\n" not in refused(path, entry)


@pytest.mark.parametrize(
    ("url", "means"),
    [
        ("http://127.0.0.1:22000", "http://127.0.0.1:22000/mcp"),
        ("http://127.0.0.1:22000/", "http://127.0.0.1:22000/mcp"),
        ("https://example.org", "https://example.org/mcp"),
        ("https://example.org/mcp", "https://example.org/mcp"),
        ("https://example.org/mcp/", "https://example.org/mcp/"),
        ("https://example.org/v1/tools", "https://example.org/v1/tools"),
        ("https://example.org?key=1", "https://example.org/mcp?key=1"),
        ("https://example.org/x?key=1", "https://example.org/x?key=1"),
        ("http://[::1]:22000", "http://[::1]:22000/mcp"),
    ],
)
def test_an_address_without_a_path_means_mcp(url: str, means: str) -> None:
    assert dict(http_connection(url, verify_ssl=True))["url"] == means


@pytest.mark.parametrize(
    "url",
    ["", "localhost:22000", "127.0.0.1", "ftp://example.org", "http://", "/mcp", "http://user:CAN/ARY@example.org"],
)
def test_an_address_that_is_not_http_is_refused_without_repeating_it(path: Path, url: str) -> None:
    expected = "MCP_CONFIG: MCP server 'one' cannot be used: it is not an http or https address."
    assert refused(path, {"url": url}) == expected


@pytest.mark.parametrize("verify_ssl", [True, False])
async def test_certificates_are_verified_unless_that_is_switched_off(path: Path, verify_ssl: bool) -> None:
    async with tls_server(path.parent / "certificate.pem") as url:
        connection = loaded(path, {"url": url}, verify_ssl=verify_ssl)
        async with connection["httpx_client_factory"]() as client:
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
    connection = dict(bundled_connection())
    assert connection["env"] == passed_on | {"PYTHONPATH": str(PROJECT)}
    assert (connection["transport"], connection["command"]) == ("stdio", sys.executable)


async def test_the_bundled_connection_starts_a_server_in_any_folder() -> None:
    async with create_session(bundled_connection()) as session:
        assert (await session.initialize()).serverInfo.name == "chat-agent"
