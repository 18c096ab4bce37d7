"""What the command shows at a terminal. Pure: settings in, text out."""

import re

from server.settings import ServerSettings

RULE = "=" * 60
SHOWN = ("ollama_model", "ollama_base_url", "temperature", "use_mcp_tools", "api_host", "api_port")
LOOPBACK_OF = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - what it means, not what we do
FIRST_QUESTION = "서울 날씨 알려줘"


def banner(settings: ServerSettings) -> str:
    """Return the configuration, without secrets."""
    lines = [f"{name.upper()}: {_shown(getattr(settings, name))}" for name in SHOWN]
    return "\n".join([RULE, "Configuration Loaded", RULE, *lines, RULE])


def open_to_all(host: str) -> str:
    """Return the warning that an address can be reached from outside without a key."""
    return (
        f"WARNING: {host} can be reached from other machines and API_KEYS is empty: anybody there can use this agent."
    )


def tools_open_to_all(host: str) -> str:
    """Return the warning that the bundled tools can be reached from outside."""
    return f"WARNING: {host} can be reached from other machines, and these tools need no key: anybody can use them."


def doors(settings: ServerSettings, program: str = "chat-agent") -> str:
    """Return where everything is; the program is the command as it was called."""
    places = {"API": f"{address(settings)}/v1", "Docs": f"{address(settings)}/docs"}
    if settings.playground:
        places["Playground"] = f"{address(settings)}/agent/playground/"
    places["Terminal"] = _chat(settings, program)
    listed = "\n".join(f"  {name:<11} {place}" for name, place in places.items())
    return f"\nchat-agent is ready.\n\n{listed}\n"


def invitation(settings: ServerSettings, program: str = "chat-agent") -> str:
    """Return where everything is, and a first question to paste."""
    question = f'{{"role": "user", "content": "{FIRST_QUESTION}"}}'
    key = "-H 'Authorization: Bearer YOUR_KEY' " if settings.api_keys else ""
    return f"""{doors(settings, program)}
Ask it something from another terminal:

  {_chat(settings, program)} -q "{FIRST_QUESTION}"

Or over the API, where the answer comes in pieces:

  curl -N {address(settings)}/v1/chat/completions {key}-H 'Content-Type: application/json' \\
    -d '{{"model": "{settings.ollama_model}", "stream": true, "messages": [{question}]}}'

Ctrl-C ends it.
"""


def _chat(settings: ServerSettings, program: str) -> str:
    """Return the command that talks to this server; it names the address unless it is the default one."""
    usual = settings.model_copy(
        update={name: ServerSettings.model_fields[name].default for name in ("api_host", "api_port")}
    )
    url = "" if address(settings) == address(usual) else f" --url {address(settings)}"
    key = " --key YOUR_KEY" if settings.api_keys else ""
    return f"{program} chat{url}{key}"


def address(settings: ServerSettings) -> str:
    """Return where this machine reaches the server."""
    host = LOOPBACK_OF.get(settings.api_host, settings.api_host)
    return f"http://[{host}]:{settings.api_port}" if ":" in host else f"http://{host}:{settings.api_port}"


def without_password(text: str) -> str:
    """Return an address, or another value, without the user and password that may stand before its host."""
    return re.sub(r"(:/{1,2})\S*@", r"\1", text)


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return without_password(str(value))
