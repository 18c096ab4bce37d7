"""Why servers and calls fail: what may have been carried out, and words without secrets."""

import pytest

from tools.mcp.reasons import may_be_taken


@pytest.mark.parametrize(
    ("statuses", "body", "taken"),
    [
        pytest.param((400, 401, 403, 404, 405, 409, 410, 413, 422, 429), "", False, id="refused"),
        pytest.param((408, 499), "", True, id="out of time"),
        pytest.param((501, 502, 503, 504, 520, 521, 522, 523, 524, 525, 529, 598), "", True, id="a gateway"),
        pytest.param((502, 503), "no such session", True, id="a gateway, whatever it says"),
        pytest.param((500,), "", True, id="a fault"),
        pytest.param((500,), "KeyError: 'city'", True, id="a fault with words"),
        pytest.param((500,), "Unknown Session", False, id="a fault about the session"),
        pytest.param((500,), '{"error":{"code":-32000,"message":"bad sessionId"}}', False, id="the same in JSON"),
    ],
)
def test_m6_a_status_says_whether_a_call_may_have_been_carried_out(
    statuses: tuple[int, ...], body: str, taken: bool
) -> None:
    assert {may_be_taken(status, body.encode()) for status in statuses} == {taken}
