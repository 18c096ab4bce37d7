"""/openapi.json is a document that programs can use: a validator, a generator of clients, and its own examples."""

import json
import os
import subprocess
from pathlib import Path

import httpx
import pytest
from pydantic import TypeAdapter

from server.answers import Chunk, Completion
from server.errors import ErrorEnvelope
from tests.agent_server import MODEL, AgentServer, agent_server
from tests.upstream import Upstream

ROOT = Path(__file__).parents[1]
ENVIRONMENT = ROOT / ".venv-clients" / "openapi"


@pytest.fixture
def programs() -> Path:
    if not (ENVIRONMENT / ".ready").exists():
        pytest.skip("openapi-python-client is not installed: run `make clients`")
    return ENVIRONMENT / "bin"


def test_it_is_a_valid_document(server: AgentServer, programs: Path, tmp_path: Path) -> None:
    document = tmp_path / "openapi.json"
    document.write_text(httpx.get(f"{server.url}/openapi.json").text)
    program = [str(programs / "python"), "-m", "openapi_spec_validator", "--schema", "3.1", str(document)]
    said = subprocess.run(program, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stdout + said.stderr


def test_a_client_that_is_generated_from_it_works(server: AgentServer, programs: Path, tmp_path: Path) -> None:
    generate = ["generate", "--url", f"{server.url}/openapi.json", "--meta", "none", "--output-path", "generated"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    subprocess.run([str(programs / "openapi-python-client"), *generate], cwd=tmp_path, check=True, capture_output=True)
    program = [str(programs / "python"), str(ROOT / "tests" / "clients" / "generated_client.py"), server.url]
    said = subprocess.run(program, env=environment, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr


def test_its_examples_are_answered(server: AgentServer, upstream: Upstream) -> None:
    document = httpx.get(f"{server.url}/openapi.json").json()
    operation = document["paths"]["/v1/chat/completions"]["post"]
    examples = operation["requestBody"]["content"]["application/json"]["examples"]
    assert [server.post(example["value"]).status_code for example in examples.values()] == [200] * len(examples)
    assert {request["model"] for request in upstream.requests} == {MODEL}
    told = {
        status: answer["content"]["application/json"]["example"] for status, answer in operation["responses"].items()
    }
    assert Completion.model_validate(told.pop("200")).model == MODEL
    assert len(told) == 12
    for example in told.values():
        TypeAdapter(ErrorEnvelope).validate_python(example)
    assert len({example["error"]["message"] for example in told.values()}) == len(told), "each has its own"
    *chunks, done = operation["responses"]["200"]["content"]["text/event-stream"]["example"].strip().split("\n\n")
    assert done == "data: [DONE]"
    assert all(Chunk.model_validate(json.loads(chunk.removeprefix("data: "))) for chunk in chunks)


def test_it_says_that_a_key_is_needed_only_where_one_is(server: AgentServer, upstream_url: str) -> None:
    assert "security" not in httpx.get(f"{server.url}/openapi.json").json()
    with agent_server(ollama_base_url=upstream_url, use_mcp_tools=False, api_keys="key") as guarded:
        document = httpx.get(f"{guarded.url}/openapi.json", headers={"Authorization": "Bearer key"}).json()
    assert document["security"] == [{"key": []}]
    assert document["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    assert document["paths"]["/health"]["get"]["security"] == [], "the one that needs none"


def test_only_refusals_that_there_are_are_described(server: AgentServer) -> None:
    document = httpx.get(f"{server.url}/openapi.json").json()
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    assert not any("422" in operation["responses"] for operation in operations)
    assert not {"HTTPValidationError", "ValidationError"} & document["components"]["schemas"].keys()
