"""llm-comply, a compliance tester of others, finds nothing to complain about."""

import json
import subprocess

import pytest

from tests.support.agent_server import agent_server
from tests.support.project import ROOT
from tests.support.upstream import Answer, Call, Json, Upstream

PROGRAM = ROOT / ".venv-clients" / "llm_comply" / "bin" / "llm-comply"
# Reasoning is only looked at in models with this name.
MODEL = "gpt-5"


def model(request: Json) -> Answer:
    """Call the tool that must be called, think where that is asked for, and talk otherwise."""
    if request.get("tool_choice"):
        function = request["tools"][-1]["function"]
        arguments = dict.fromkeys(function["parameters"].get("required", ()), "Seoul")
        return Answer(calls=[Call(function["name"], json.dumps(arguments))])
    return Answer(["Hello ", "there."], reasoning=["Let me think."] if request.get("reasoning_effort") else ())


@pytest.mark.parametrize(("form", "checks"), [("openai-chat", 9), ("open-responses", 13)])
def test_every_check_passes(upstream: Upstream, upstream_url: str, form: str, checks: int) -> None:
    if not PROGRAM.exists():
        pytest.skip("llm-comply is not installed: run `make clients`")
    upstream.otherwise = model
    options = {"ollama_base_url": upstream_url, "use_mcp_tools": False, "model_aliases": f"{MODEL}=test-model"}
    with agent_server(**options) as server:
        address = ["--base-url", f"{server.url}/v1", "--api-key", "none", "--model", MODEL]
        ended = subprocess.run(
            [PROGRAM, "--json", "--format", form, *address],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    report = json.loads(ended.stdout)
    assert report["summary"] == {"total": checks, "passed": checks, "failed": 0, "skipped": 0}
    assert [result for result in report["results"] if result.get("warnings")] == []
