"""A client that openapi-python-client made from /openapi.json, as package `generated`; all answers are typed."""

import sys

from generated import Client
from generated.api.chat import create_chat_completion
from generated.api.health import ready
from generated.api.models import list_models
from generated.api.sessions import (
    delete_session,
    list_messages,
    list_sessions,
    retrieve_session,
)
from generated.models import (
    ChatRequest,
    Completion,
    ErrorEnvelope,
    Message,
    MessageRole,
    SessionDeleted,
)

client = Client(base_url=sys.argv[1])
model = list_models.sync(client=client).data[0].id
question = ChatRequest(model=model, messages=[Message(role=MessageRole.USER, content="hello")])

completion = create_chat_completion.sync(client=client, body=question, x_session_id="s")
assert isinstance(completion, Completion), completion
assert completion.choices[0].message.content == "You said: hello"
assert completion.usage.total_tokens == 15

question.temperature = 3.0
refused = create_chat_completion.sync(client=client, body=question)
assert isinstance(refused, ErrorEnvelope), refused
assert (refused.error.param, refused.error.code) == ("temperature", "decimal_above_max_value")

[session] = list_sessions.sync(client=client).data
assert (session.id, session.turns) == ("s", 1)
asked, answered = list_messages.sync("s", client=client).data
assert (asked.role, answered.content) == (MessageRole.USER, "You said: hello")
assert isinstance(delete_session.sync("s", client=client), SessionDeleted)
gone = retrieve_session.sync("s", client=client)
assert isinstance(gone, ErrorEnvelope), gone
assert gone.error.code == "session_not_found"
assert ready.sync(client=client).status == "ready"
