"""The files in deploy/: valid by the schemas of those who read them, and in step with the server's settings."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from server.settings import ServerSettings
from tests.support.agent_server import agent_server
from tests.support.environments import ENVIRONMENTS
from tests.support.project import ROOT
from tests.test_nginx import AROUND, NGINX

COMPOSE = ROOT / "deploy" / "compose"
KUBERNETES = ROOT / "deploy" / "kubernetes" / "chat-agent.yaml"
VALIDATORS = ENVIRONMENTS / "validators" / "bin"
SETTINGS = {name.upper() for name in ServerSettings.model_fields}

STRICTLY = """
import sys, yaml, kubernetes_validate
for document in yaml.safe_load_all(open(sys.argv[1])):
    kubernetes_validate.validate(document, "1.31", strict=True)
    print(document["kind"])
"""


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((COMPOSE / "compose.yaml").read_text())
    return document


@pytest.fixture(scope="module")
def manifests() -> dict[str, Any]:
    return {document["kind"]: document for document in yaml.safe_load_all(KUBERNETES.read_text())}


def checked(*command: str | Path) -> str:
    """Run a command that must succeed, and return what it prints."""
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout + ended.stderr


def test_the_compose_file_is_one() -> None:
    checked(VALIDATORS / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", str(COMPOSE / "compose.yaml"))


def test_all_that_the_compose_file_names_is_there(compose: dict[str, Any]) -> None:
    services = compose["services"]
    for service in services.values():
        assert set(service.get("depends_on", ())) <= set(services)
        assert set(service.get("secrets", ())) <= set(compose["secrets"])
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            assert (COMPOSE / source).is_file() if source.startswith(".") else source in compose["volumes"]
    assert set(services["agent"]["environment"]) <= SETTINGS
    assert (COMPOSE / services["agent"]["build"] / "Dockerfile").is_file()


def test_every_variable_of_the_compose_file_is_explained(compose: dict[str, Any]) -> None:
    named = set(re.findall(r"\$\{(\w+)", (COMPOSE / "compose.yaml").read_text())) - {"GRAFANA_PASSWORD"}
    assert named == set(re.findall(r"^#? ?([A-Z_]+)=", (COMPOSE / ".env.example").read_text(), re.MULTILINE))
    assert compose["services"]["open-webui"]["environment"]["OPENAI_API_KEY"].startswith("${API_KEY")


def test_prometheus_asks_every_agent_with_the_key(compose: dict[str, Any]) -> None:
    [job] = yaml.safe_load((COMPOSE / "prometheus.yml").read_text())["scrape_configs"]
    assert job["authorization"] == {"credentials_file": "/run/secrets/metrics_key"}
    [found] = job["dns_sd_configs"]
    assert found["names"] == ["agent"]
    assert found["port"] == ServerSettings.model_fields["api_port"].default
    assert compose["services"]["agent"]["scale"] == 2


@pytest.mark.skipif(NGINX is None, reason="nginx is not installed")
def test_the_proxy_of_the_compose_file_is_understood_by_nginx(tmp_path: Path) -> None:
    (tmp_path / "chat-agent.conf").write_text((COMPOSE / "nginx.conf").read_text())
    (tmp_path / "nginx.conf").write_text(AROUND.format(user="", temp_paths=""))
    assert NGINX
    assert "test is successful" in checked(NGINX, "-e", "stderr", "-t", "-p", tmp_path, "-c", "nginx.conf")


def test_the_manifests_are_what_kubernetes_takes() -> None:
    kinds = checked(VALIDATORS / "python", "-c", STRICTLY, KUBERNETES).split()
    assert kinds == ["ConfigMap", "Deployment", "Service", "PodDisruptionBudget", "HorizontalPodAutoscaler"]


def test_the_manifests_fit_each_other_and_the_server(manifests: dict[str, Any]) -> None:
    labels = manifests["Deployment"]["spec"]["template"]["metadata"]["labels"]
    for kind, selector in (("Deployment", "matchLabels"), ("PodDisruptionBudget", "matchLabels")):
        assert manifests[kind]["spec"]["selector"][selector] == labels
    assert manifests["Service"]["spec"]["selector"] == labels
    assert set(manifests["ConfigMap"]["data"]) <= SETTINGS
    [pod] = manifests["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert pod["ports"][0]["containerPort"] == ServerSettings.model_fields["api_port"].default
    [metric] = manifests["HorizontalPodAutoscaler"]["spec"]["metrics"]
    with agent_server(ollama_base_url="http://127.0.0.1:1/v1", use_mcp_tools=False) as server:
        assert f"\n{metric['pods']['metric']['name']} 0.0" in httpx.get(f"{server.url}/metrics").text


@pytest.mark.parametrize(("key", "status"), [("probe-key", 0), ("another", 1)])
def test_the_readiness_probe_asks_with_a_key_for_the_database_alone(
    manifests: dict[str, Any], key: str, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    [pod] = manifests["Deployment"]["spec"]["template"]["spec"]["containers"]
    program = pod["readinessProbe"]["exec"]["command"][2]
    monkeypatch.setenv("PROBE_KEY", key)
    nowhere = "http://127.0.0.1:1/v1"
    with agent_server(ollama_base_url=nowhere, use_mcp_tools=False, api_keys="probe:probe-key") as server:
        asked = program.replace("http://127.0.0.1:23000", server.url)
        assert asked != program
        assert subprocess.run([sys.executable, "-c", asked], capture_output=True, check=False).returncode == status


def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    unit = (ROOT / "deploy" / "chat-agent.service").read_text()
    installed = tmp_path / "chat-agent.service"
    installed.write_text(unit.replace("/opt/chat-agent/.venv/bin/chat-agent", "/bin/true"))
    checked("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", installed)
