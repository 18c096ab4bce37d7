"""docs/contract.md, section F: the models that clients see, and those that they may ask for."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import openai
import pytest

from tests.support.agent_server import HELLO, MODEL, AgentServer, agent_server
from tests.support.upstream import Upstream
from tests.support.waiting import until


def test_b14_f1_a_model_has_openai_s_fields_and_no_more(server: AgentServer) -> None:
    answer = httpx.get(f"{server.url}/v1/models").json()
    (model,) = answer["data"]
    assert answer == {"object": "list", "data": [model]}
    assert (model["id"], model["object"], model["owned_by"]) == (MODEL, "model", "ollama")
    assert isinstance(model["created"], int)
    assert model.keys() <= openai.types.Model.model_fields.keys(), "Open WebUI makes something of others"
    assert httpx.get(f"{server.url}/v1/models/{MODEL}").json() == model


def test_two_first_requests_at_once_for_a_model_of_the_endpoint_are_both_answered(
    upstream: Upstream, upstream_url: str
) -> None:
    upstream.models = [MODEL, "other"]
    body = {"model": "other", "messages": [HELLO]}
    with agent_server(ollama_base_url=upstream_url, use_mcp_tools=False) as server, ThreadPoolExecutor(2) as pool:
        assert [answer.status_code for answer in pool.map(lambda _: server.post(body), range(2))] == [200, 200]


def test_c5_f2_aliases_are_models_where_they_are_configured(upstream: Upstream, upstream_url: str) -> None:
    options: dict[str, Any] = {"ollama_base_url": upstream_url, "use_mcp_tools": False}
    with agent_server(**options, model_aliases=f"gpt-4o={MODEL}, other=qwen3:8b") as server:
        with server.client() as client:
            assert [model.id for model in client.models.list()] == [MODEL, "gpt-4o", "other"]
            assert client.models.retrieve("other").id == "other"
            for name, asked in (("gpt-4o", MODEL), ("other", "qwen3:8b")):
                completion = client.chat.completions.create(model=name, messages=[HELLO])
                chunks = list(client.chat.completions.create(model=name, messages=[HELLO], stream=True))
                assert {completion.model, *(chunk.model for chunk in chunks)} == {name}
                assert upstream.last["model"] == asked
            with pytest.raises(openai.NotFoundError) as caught:
                client.models.retrieve("gpt-9")
    assert caught.value.code == "model_not_found"
    with agent_server(**options) as server:
        assert httpx.get(f"{server.url}/v1/models/gpt-4o").status_code == 404


def test_models_of_the_endpoint_are_listed_once_a_minute_and_can_be_narrowed(
    upstream: Upstream, upstream_url: str
) -> None:
    upstream.models = ["a", "b", "c"]
    options = {"ollama_base_url": upstream_url, "use_mcp_tools": False, "models": "c, a, x"}
    with agent_server(**options) as server:
        for _ in range(3):
            listed = httpx.get(f"{server.url}/v1/models").json()["data"]
            assert [model["id"] for model in listed] == [MODEL, "a", "c"]
            until(lambda: upstream.listed == 2)  # once for us, and once to see at the start that it answers
        for name, status in (("a", 200), ("b", 404), ("x", 404)):
            assert server.post({"model": name, "messages": [HELLO]}).status_code == status
    assert upstream.last["model"] == "a"


def test_an_endpoint_that_cannot_list_its_models_still_answers(upstream_url: str) -> None:
    with agent_server(ollama_base_url=f"{upstream_url}/nowhere", use_mcp_tools=False) as server:
        assert [model["id"] for model in httpx.get(f"{server.url}/v1/models").json()["data"]] == [MODEL]


def test_an_alias_for_all_names_takes_all_names(upstream: Upstream, upstream_url: str) -> None:
    with agent_server(ollama_base_url=upstream_url, use_mcp_tools=False, model_aliases=f"*={MODEL}") as server:
        assert server.post({"model": "gpt-9", "messages": [HELLO]}).status_code == 200
        assert [model["id"] for model in httpx.get(f"{server.url}/v1/models").json()["data"]] == [MODEL]
    assert upstream.last["model"] == MODEL
