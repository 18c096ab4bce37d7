"""An MCP server over stdio without any SDK whose tools send too much."""

import json
import sys

MEGABYTE = "x" * 1_000_000
GREETING = {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": {"name": "f", "version": "1"}}
TOOLS = [{"name": name, "inputSchema": {"type": "object"}} for name in ("big", "late", "loud", "small")]
BEGINNING, END = '"result":{"content":[{"type":"text","text":"', '"}]}'


def answer(request_id: int, result: object) -> None:
    print(json.dumps({"jsonrpc": "2.0", "id": request_id, "result": result}), flush=True)


def call(name: str, request_id: int) -> None:
    """Answer a call: with 100 MB behind the id, or before it, or with 200 MB on standard error."""
    if name in ("big", "late"):
        told = f'"jsonrpc":"2.0","id":{request_id}'
        sys.stdout.write("{" + (f"{told}," if name == "big" else "") + BEGINNING)
        for _ in range(100):
            sys.stdout.write(MEGABYTE)
        print(END + ("" if name == "big" else f",{told}") + "}", flush=True)
        return
    if name == "loud":
        for number in range(200_000):
            print("line \x1b[2J", number, "y" * 1000, file=sys.stderr)
    answer(request_id, {"content": [{"type": "text", "text": name}]})


for line in sys.stdin:
    message = json.loads(line)
    match message["method"]:
        case "initialize":
            answer(message["id"], GREETING)
        case "tools/list":
            answer(message["id"], {"tools": TOOLS})
        case "tools/call":
            call(message["params"]["name"], message["id"])
        case "ping":
            answer(message["id"], {})
