"""An MCP server over stdio without any SDK, which does one odd thing: `python -m tests.tools.mcp.raw_server TABLE LOG`.

TABLE is JSON: for a method, or for `tools/call NAME`, what is done about it:

    {"result": …} or {"error": …}   the answer
    {"raw": "text"}                 a line as it is, with ID in the place of the request's id
    {"sleep": seconds, …}           first the whole process sleeps
    {"progress": n, …}              first n notifications of progress, a third of a second apart
    {"exit": status, "words": …}    the process writes the words to standard error and ends
    {"fork": true, …}               first a helper is left behind that holds standard output
    {}                              nothing
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

GREETING = {
    "protocolVersion": "2025-06-18",
    "capabilities": {"tools": {}},
    "serverInfo": {"name": "raw", "version": "1"},
}


def tool(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "inputSchema": {"type": "object"}, **more}


def lines(log: Path) -> list[Any]:
    """What a server has received so far."""
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def say(message: object) -> None:
    print(message if isinstance(message, str) else json.dumps(message), flush=True)


def react(message: Mapping[str, Any], does: Mapping[str, Any]) -> None:
    """Do what the table says about a message."""
    if does.get("fork"):
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(20)"], stdin=subprocess.DEVNULL)
    time.sleep(does.get("sleep", 0))
    for step in range(does.get("progress", 0)):
        token = message["params"]["_meta"]["progressToken"]
        told = {"progressToken": token, "progress": step + 1, "total": 9, "message": f"step {step + 1}"}
        say({"jsonrpc": "2.0", "method": "notifications/progress", "params": told})
        time.sleep(0.3)
    if "exit" in does:
        print(does.get("words", ""), file=sys.stderr, flush=True)
        os._exit(does["exit"])
    if "raw" in does:
        say(does["raw"].replace("ID", str(message["id"])))
    for part in ("result", "error"):
        if part in does:
            say({"jsonrpc": "2.0", "id": message["id"], part: does[part]})


def main() -> None:
    table = {"initialize": {"result": GREETING}, **json.loads(sys.argv[1])}
    for line in sys.stdin:
        message = json.loads(line)
        with Path(sys.argv[2]).open("a") as log:
            log.write(line)
        method = message.get("method", "")
        name = message.get("params", {}).get("name")
        react(message, table.get(f"{method} {name}") or table.get(method) or {})


if __name__ == "__main__":
    main()
