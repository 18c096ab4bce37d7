"""Why servers and calls fail: what may have been carried out, and words without secrets."""

import pytest

from tools.mcp.reasons import may_be_taken, reason
from tools.mcp.spec import HttpAddress, StdioAddress


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


def command(*arguments: str, **variables: str) -> StdioAddress:
    return StdioAddress(command="server", args=arguments, env=variables)


CANARY = "CANARY-1234"


@pytest.mark.parametrize(
    "address",
    [
        command("--api-key", CANARY),
        command("--token", CANARY),
        command("--password", CANARY),
        command("-token", CANARY),
        command(f"--apiKey={CANARY}"),
        command(f"--db.password={CANARY}"),
        command("run", "-e", f"GITHUB_TOKEN={CANARY}"),
        command("--header", f"Authorization: Bearer {CANARY}"),
        command("--header", f"X-Api-Key:  {CANARY}"),
        command(f"postgresql://me:{CANARY}@db/x"),
        command("--url", f"redis://:{CANARY}@db/0"),
        command(f"--url=https://db/x?sig={CANARY}"),
        command(f"https://{CANARY}@example.org/x"),
        command(SERVER_KEY=CANARY),
        command(UPSTREAM=f"amqp://me:{CANARY}@queue"),
        HttpAddress(url=f"https://example.org/mcp?api_key={CANARY}&mode=x"),
        HttpAddress(url=f"https://example.org/mcp?{'x=1&' * 3}t={CANARY}"),
        HttpAddress(url=f"https://me:{CANARY}@example.org/mcp"),
        HttpAddress(url="https://example.org/mcp?t=CANARY%2D1234"),
        HttpAddress(url="https://me:CANARY%2D1234@example.org/mcp"),
        HttpAddress(url="https://example.org/mcp", headers={"Authorization": f"Bearer {CANARY}"}),
        HttpAddress(url="https://example.org/mcp", headers={"X-Key": CANARY}),
    ],
    ids=str,
)
def test_a_secret_of_an_address_is_not_told(address: StdioAddress | HttpAddress) -> None:
    assert reason(Exception(f"the key {CANARY} is wrong"), address.secrets()) == "the key … is wrong"


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("no postgresql://me:hunter2@db:5432/x here", "no postgresql://db:5432/x here"),
        ("mongodb+srv://me:p%40ss@db/x?authSource=secret", "mongodb+srv://db/x"),
        ("redis://:hunter2@cache", "redis://cache"),
        ("'https://me:p@example.org/a?key=1#x' failed", "'https://example.org/a' failed"),
        ("at file:///tmp/a, in C://x", "at file:///tmp/a, in C://x"),
        ("mail me@example.org: 5 // 2", "mail me@example.org: 5 // 2"),
    ],
)
def test_an_address_in_any_words_is_told_without_user_and_query(said: str, told: str) -> None:
    assert reason(Exception(said)) == told


@pytest.mark.parametrize(
    "address",
    [
        command("--folder", "work-folder"),
        command("--no-auth", "--folder", "work-folder"),
        command("https://example.org/work-folder"),
        command("--mode=work-folder", MODE="work-folder"),
        command("--token-file=x", "work-folder"),
        HttpAddress(url="https://example.org/work-folder"),
    ],
    ids=str,
)
def test_what_is_no_secret_is_told(address: StdioAddress | HttpAddress) -> None:
    assert reason(Exception("no work-folder"), address.secrets()) == "no work-folder"
