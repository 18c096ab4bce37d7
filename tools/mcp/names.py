"""Names for the tools of all servers, as the model sees them. Pure.

Endpoints that enforce OpenAI's format refuse a whole request for one name of another form, and MCP servers may name
their tools freely. A name is made from the tool's own name, and the server's if two tools share one. So it stays the
same when other servers come or go.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from hashlib import sha256

MAX_LENGTH = 64
Tool = tuple[str, str]
"""A server's name, and that server's name for the tool."""
FOREIGN = re.compile(r"[^A-Za-z0-9_-]+")


def model_names(offered: Sequence[Tool], held: Mapping[Tool, str] | None = None) -> list[str]:
    """Return a name for each tool: of the form `^[a-zA-Z0-9_-]{1,64}$`, and no two the same; held ones stay."""
    held = {tool: name for tool, name in (held or {}).items() if tool in offered}
    new = [tool for tool in offered if tool not in held]
    names = {**held, **dict(zip(new, _new_names(new, Counter(held.values())), strict=True))}
    return [names[tool] for tool in offered]


def _new_names(offered: Sequence[Tool], taken: Counter[str]) -> list[str]:
    alone = _told_apart(offered, [fit_name(tool) for _, tool in offered])
    shared = taken + Counter(alone)
    prefixed = [
        name if shared[name] == 1 else fit_name(f"{server}_{tool}")
        for name, (server, tool) in zip(alone, offered, strict=True)
    ]
    unique = taken + Counter(prefixed)
    return [
        name if unique[name] == 1 else _marked(name, f"{server}\n{tool}")
        for name, (server, tool) in zip(prefixed, offered, strict=True)
    ]


def fit_name(name: str) -> str:
    """Return the name in the form that models may use; a hash of the whole name stands for letters that are lost."""
    fit = FOREIGN.sub("_", name)
    if is_recognizable(name):
        return fit
    return _marked(fit.strip("_"), name)


def is_recognizable(name: str) -> bool:
    """Whether a name loses only punctuation in the form that models may use."""
    return 0 < len(name) <= MAX_LENGTH and name.isascii() and any(character.isalnum() for character in name)


def _told_apart(offered: Sequence[Tool], names: Sequence[str]) -> list[str]:
    """Mark the tools of one server that came to the same name, but not the one that was called so before."""
    count = Counter((server, name) for (server, _), name in zip(offered, names, strict=True))
    return [
        name if name == tool or count[server, name] == 1 else _marked(name, tool)
        for (server, tool), name in zip(offered, names, strict=True)
    ]


def _marked(name: str, whole: str) -> str:
    mark = sha256(whole.encode(errors="surrogatepass")).hexdigest()[:6]
    return f"{name[: MAX_LENGTH - 7] or 'tool'}_{mark}"
