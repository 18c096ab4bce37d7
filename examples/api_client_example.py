"""Talk to the agent with the openai package: chat, stream, a tool question, a session that goes on, reset.

With `make demo` or `make serve` in another terminal, in the project's folder:

    .venv/bin/python examples/api_client_example.py
    uv run python examples/api_client_example.py      (with uv)

BASE_URL and API_KEY say where the server is, and with which key.
"""

import os
import sys
import uuid

try:
    import httpx
    from openai import APIConnectionError, APIStatusError, OpenAI
except ModuleNotFoundError as error:
    sys.exit(
        f"The package {error.name} is missing in {sys.executable}. In the project's folder, after `make setup`, run\n"
        "  .venv/bin/python examples/api_client_example.py"
    )

BASE_URL = os.environ.get("BASE_URL", "http://127.0.0.1:23000")
API_KEY = os.environ.get("API_KEY", "none")

session = str(uuid.uuid4())
client = OpenAI(base_url=f"{BASE_URL}/v1", api_key=API_KEY, default_headers={"X-Session-ID": session}, max_retries=0)


def main() -> None:
    """Ask four times, and forget it all."""
    model = client.models.list().data[0].id

    print("# Chat")
    print(ask(model, "Hello! My name is Mina."))

    print("\n# The session goes on: only what is new needs to be sent")
    print(ask(model, "What is my name?"))

    print("\n# A question that needs a tool, streamed")
    stream = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": "서울 날씨 알려줘"}], stream=True
    )
    for chunk in stream:
        print(chunk.choices[0].delta.content or "", end="", flush=True)
    print()

    print("\n# Reset: the same session, with nothing in it")
    reset = httpx.post(f"{BASE_URL}/v1/sessions/{session}/reset", headers={"Authorization": f"Bearer {API_KEY}"})
    print(reset.raise_for_status().json())


def ask(model: str, question: str) -> str:
    """Ask one question in the session and return the whole answer."""
    answer = client.chat.completions.create(model=model, messages=[{"role": "user", "content": question}])
    return answer.choices[0].message.content or ""


try:
    main()
except APIConnectionError:
    sys.exit(f"No server answers at {BASE_URL}. Start one with `make demo`, or set BASE_URL to where it is.")
except APIStatusError as refusal:
    advice = " Set API_KEY to one of the server's keys." if refusal.status_code == 401 else ""
    sys.exit(f"{refusal.message}{advice}")
except KeyboardInterrupt:
    sys.exit(130)
