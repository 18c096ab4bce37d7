"""schemathesis, which makes requests from an OpenAPI document, finds none that breaks the server or its promises."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.agent_server import MODEL, agent_server
from tests.support.project import ROOT
from tests.support.upstream import Upstream

ENVIRONMENT = ROOT / ".venv-clients" / "schemathesis"
# For each operation.
EXAMPLES, NIGHTLY_EXAMPLES = 15, 200
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "errors_are_in_the_envelope",
)


@pytest.fixture
def environment() -> Path:
    if not (ENVIRONMENT / ".ready").exists():
        pytest.skip("schemathesis is not installed: run `make clients`")
    return ENVIRONMENT / "bin"


def run(environment: Path, *arguments: str, examples: int) -> None:
    ended = subprocess.run(
        [
            *(str(environment / "schemathesis"), "run", *arguments, "--no-color"),
            *("--phases", "coverage,fuzzing", "--max-examples", str(examples), "--checks", ",".join(CHECKS)),
        ],
        env=os.environ | {"SCHEMATHESIS_HOOKS": "tests.clients.envelope_check", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.timeout(1300)
@pytest.mark.parametrize("examples", [EXAMPLES, pytest.param(NIGHTLY_EXAMPLES, marks=pytest.mark.nightly)])
def test_our_own_document_is_true(upstream: Upstream, upstream_url: str, environment: Path, examples: int) -> None:
    options = {"ollama_base_url": upstream_url, "use_mcp_tools": False, "model_aliases": f"*={MODEL}"}
    with agent_server(**options) as server:
        run(environment, f"{server.url}/openapi.json", examples=examples)
    assert len(upstream.requests) > examples / 4, "not all of them were refused"


@pytest.mark.nightly
@pytest.mark.timeout(1300)
def test_openai_s_document_is_true_of_this_server(
    upstream: Upstream, upstream_url: str, environment: Path, tmp_path: Path
) -> None:
    document = tmp_path / "openai.json"
    with document.open("w") as file:
        program = [str(environment / "python"), "-m", "tests.clients.openai_document", MODEL]
        subprocess.run(program, cwd=ROOT, stdout=file, check=True)
    with agent_server(ollama_base_url=upstream_url, use_mcp_tools=False) as server:
        run(environment, str(document), "--url", f"{server.url}/v1", examples=NIGHTLY_EXAMPLES)
    assert len(upstream.requests) > NIGHTLY_EXAMPLES / 10, (
        "not all of them were refused, though most ask for what we have not"
    )
