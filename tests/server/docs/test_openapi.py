"""/openapi.json is a document that programs can use: a validator, a generator of clients, and its own examples."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import httpx
import jsonschema_rs
import pytest
from openai.types.responses import Response
from playwright.sync_api import expect
from pydantic import TypeAdapter

from server.chat.response import Chunk, Completion
from server.docs.descriptions import FIELDS
from server.errors import ErrorEnvelope
from tests.support.agent_server import HELLO, MODEL, AgentServer, agent_server
from tests.support.browser import chromium
from tests.support.project import ROOT
from tests.support.responses import event_of
from tests.support.upstream import Json, Upstream

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


def test_the_examples_of_responses_are_answered(server: AgentServer, upstream: Upstream) -> None:
    operation = httpx.get(f"{server.url}/openapi.json").json()["paths"]["/v1/responses"]["post"]
    examples = operation["requestBody"]["content"]["application/json"]["examples"]
    answers = [httpx.post(f"{server.url}/v1/responses", json=example["value"]) for example in examples.values()]
    assert [answer.status_code for answer in answers] == [200] * len(examples)
    assert {request["model"] for request in upstream.requests} == {MODEL}
    told = operation["responses"]["200"]["content"]
    assert Response.model_validate(told["application/json"]["example"]).output_text == "It is 5.3 °C in Seoul."
    *frames, done = told["text/event-stream"]["example"].strip().split("\n\n")
    assert done == "data: [DONE]"
    events = [event_of(frame) for frame in frames]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert events[-1]["response"] == told["application/json"]["example"]


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


def described(document: Json) -> Iterator[tuple[str, Json]]:
    """Everything in the document that a reader may ask about, with where it is."""
    for name, schema in document["components"]["schemas"].items():
        yield name, schema
        for field, content in schema.get("properties", {}).items():
            yield f"{name}.{field}", content
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            yield f"{method} {path}", operation
            for parameter in operation.get("parameters", []):
                yield f"{method} {path} {parameter['name']}", parameter
            for status, response in operation["responses"].items():
                yield f"{method} {path} {status}", response
                for name, header in response["headers"].items():
                    yield f"{method} {path} {status} {name}", header


def test_f17_everything_in_it_is_described(server: AgentServer) -> None:
    document = httpx.get(f"{server.url}/openapi.json").json()
    found = dict(described(document))
    assert len([place for place in found if place.startswith("ChatRequest.")]) == 24
    assert [place for place, content in found.items() if not content.get("description")] == []
    assert [place for place, content in found.items() if content["description"] == "Successful Response"] == []
    for schema, fields in FIELDS.items():
        assert fields.keys() <= document["components"]["schemas"][schema]["properties"].keys(), "said of what there is"


SESSION_IDS = {
    "a.b_c:d-1": True,
    "x" * 128: True,
    "": False,
    " ": False,
    "x" * 129: False,
    "a b": False,
    "a\n": False,
    "\n": False,
    "a\nb": False,
    "세션": False,
    " a": False,
}


def test_f17_the_pattern_of_a_session_id_says_what_the_server_does(server: AgentServer) -> None:
    document = httpx.get(f"{server.url}/openapi.json").json()
    schema = document["components"]["schemas"]["ChatRequest"]["properties"]["session_id"]
    body = {"model": MODEL, "messages": [HELLO]}
    does = {each: server.post({**body, "session_id": each}).status_code == 200 for each in SESSION_IDS}
    assert does == SESSION_IDS
    assert {each: re.search(schema["pattern"], each) is not None for each in SESSION_IDS} == does, "as Python reads it"
    assert {each: jsonschema_rs.is_valid(schema, each) for each in SESSION_IDS} == does, "as Rust reads it"
    with chromium("about:") as browser:
        matching = "([pattern, texts]) => texts.filter(text => new RegExp(pattern, 'u').test(text))"
        matched = browser.page().evaluate(matching, [schema["pattern"], list(SESSION_IDS)])
    assert matched == [each for each, taken in does.items() if taken], "as JavaScript reads it"


def test_f17_the_id_in_a_path_is_no_blank_and_has_no_line_end(server: AgentServer) -> None:
    document = httpx.get(f"{server.url}/openapi.json").json()
    (parameter,) = document["paths"]["/v1/sessions/{session_id}"]["get"]["parameters"]
    for session_id, status in (("a", 404), ("a%0A", 400), ("%20", 400), ("a%20b", 400)):
        says = re.search(parameter["schema"]["pattern"], unquote(session_id)) is not None
        assert says == (status == 404), session_id
        assert httpx.get(f"{server.url}/v1/sessions/{session_id}").status_code == status


def test_f17_the_pages_ask_no_other_host(server: AgentServer) -> None:
    with chromium(server.url) as browser:
        for path in ("/docs", "/redoc"):
            page = browser.page()
            page.goto(f"{server.url}{path}")
            expect(page.get_by_text("/v1/chat/completions").first).to_be_visible()
            page.wait_for_load_state("networkidle")
        assert (browser.strayed, browser.complaints) == ([], [])
    script = httpx.get(f"{server.url}/docs/assets/redoc.standalone.js")
    assert script.headers["content-type"].startswith("text/javascript")
    assert "cdn." not in script.text
