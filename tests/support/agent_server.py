"""The agent's server under test: our app under a real uvicorn, with real clients."""

import json
import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import openai
from openai.types.chat import ChatCompletionUserMessageParam

from server.app import create_app
from server.settings import ServerSettings
from tests.support.loopback import served

MODEL = "test-model"
# Read once: each client would read them for itself, which takes thirty times as long as the rest of making one.
CERTIFICATES = ssl.create_default_context()
HELLO: ChatCompletionUserMessageParam = {"role": "user", "content": "hello"}


class ClosedWhenUnused(openai.DefaultHttpxClient):
    """The SDK's HTTP client, which closes itself as the one does that the SDK makes."""

    def __del__(self) -> None:
        self.close()


@dataclass(frozen=True)
class AgentServer:
    """A running server."""

    url: str
    process_id: int = 0
    """Of a server in a process of its own."""

    def client(self, *, key: str = "any", session: str | None = None, retries: int = 0) -> openai.OpenAI:
        """Return the OpenAI SDK's client, in a session of its own where one is named."""
        headers = {"X-Session-ID": session} if session else {}
        return openai.OpenAI(
            base_url=f"{self.url}/v1",
            api_key=key,
            default_headers=headers,
            max_retries=retries,
            http_client=ClosedWhenUnused(verify=CERTIFICATES),
        )

    def post(self, body: dict[str, Any], **options: Any) -> httpx.Response:
        """Post a chat completion as curl would."""
        return httpx.post(f"{self.url}/v1/chat/completions", json=body, timeout=30, verify=CERTIFICATES, **options)

    def ask(self, text: str, *, session: str | None = None, **fields: Any) -> str:
        """Ask one question, not streamed, and return the answer's text."""
        with self.client(session=session) as client:
            completion = client.chat.completions.create(
                model=MODEL, messages=[{"role": "user", "content": text}], **fields
            )
        return completion.choices[0].message.content or ""


@contextmanager
def agent_server(**settings: Any) -> Iterator[AgentServer]:
    """Serve the agent with these settings over their defaults; the database is in the working folder."""
    app = create_app(ServerSettings(**{"ollama_model": MODEL, **settings}))
    with served(app) as url:
        yield AgentServer(url)


def frames_of(server: AgentServer, **fields: Any) -> list[Any]:
    """Return the data of every frame of a streamed answer; [DONE] stays a string."""
    response = server.post({"model": MODEL, "messages": [HELLO], "stream": True, **fields})
    frames = response.text.split("\n\n")
    assert frames.pop() == ""
    assert all(re.fullmatch(r"data: [^\r\n]+", frame) for frame in frames), "nothing but data lines"
    texts = [frame.removeprefix("data: ") for frame in frames]
    return [text if text == "[DONE]" else json.loads(text) for text in texts]
