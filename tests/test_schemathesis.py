"""schemathesis, which makes requests from /openapi.json, finds no request that breaks the server."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.agent_server import MODEL, agent_server

ROOT = Path(__file__).parents[1]
PROGRAM = ROOT / ".venv-clients" / "schemathesis" / "bin" / "schemathesis"
EXAMPLES = 200


def test_no_request_breaks_the_server(upstream_url: str) -> None:
    if not PROGRAM.exists():
        pytest.skip("schemathesis is not installed: run `make clients`")
    options = {"ollama_base_url": upstream_url, "use_mcp_tools": False, "model_aliases": f"*={MODEL}"}
    with agent_server(**options) as server:
        ended = subprocess.run(
            [
                *(PROGRAM, "run", f"{server.url}/openapi.json", "--include-path-regex", "^/(v1/|health|ready)"),
                *("--phases", "coverage,fuzzing", "--max-examples", str(EXAMPLES), "--no-color"),
                *("--checks", "not_a_server_error,errors_are_in_the_envelope"),
            ],
            env=os.environ | {"SCHEMATHESIS_HOOKS": "tests.clients.envelope_check", "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=110,
            check=False,
        )
    assert ended.returncode == 0, ended.stdout + ended.stderr
