"""A check for schemathesis: every error of ours is in OpenAI's envelope, and carries its ids."""

import schemathesis

ENVELOPE = {"message", "type", "param", "code"}


@schemathesis.check  # type: ignore[untyped-decorator]  # schemathesis is not in .venv
def errors_are_in_the_envelope(
    ctx: schemathesis.CheckContext,  # noqa: ARG001 - the three are passed to every check
    response: schemathesis.Response,
    case: schemathesis.Case,  # noqa: ARG001
) -> None:
    """Hold an answer to it."""
    assert response.headers.get("x-request-id"), "no x-request-id"
    assert response.headers.get("x-session-id"), "no x-session-id"
    if response.status_code >= 400:
        assert set(response.json()["error"]) == ENVELOPE, response.text
