"""Talk to the agent with the openai package: chat, stream, a tool question, a session that goes on, reset.

Run it beside `make demo` or `make serve`; BASE_URL and API_KEY say where and with which key.
"""

import os
import uuid

import httpx
from openai import OpenAI

BASE_URL = os.environ.get("BASE_URL", "http://127.0.0.1:23000")
API_KEY = os.environ.get("API_KEY", "none")

session = str(uuid.uuid4())
client = OpenAI(base_url=f"{BASE_URL}/v1", api_key=API_KEY, default_headers={"X-Session-ID": session})
model = client.models.list().data[0].id


def ask(question: str) -> str:
    """Ask one question in the session and return the whole answer."""
    answer = client.chat.completions.create(model=model, messages=[{"role": "user", "content": question}])
    return answer.choices[0].message.content or ""


print("# Chat")
print(ask("Hello! My name is Mina."))

print("\n# The session goes on: only what is new needs to be sent")
print(ask("What is my name?"))

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

client.close()
