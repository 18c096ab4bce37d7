"""Expand the variables in a file of servers, in each of the forms that MCP hosts use. Pure.

`${NAME}` and `${NAME:-default}` (Claude Code), `${env:NAME}`, `${input:id}`, `${workspaceFolder}`, `${userHome}` (VS
Code, Cursor), and `$NAME` as the whole value of a header or a variable (Gemini CLI).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

VARIABLE = re.compile(r"\$\{(?P<name>[\w/]+(?:[:.]\w[\w.-]*)?)(?::-(?P<default>[^}]*))?\}")
WHOLE = re.compile(r"\$(\w+)")
HIDDEN_FOLDER = "."


class UnsetVariableError(ValueError):
    """A variable has no value; the message says which, and what to do."""


@dataclass(frozen=True, kw_only=True)
class Variables:
    """The values of the variables in a file."""

    environment: Mapping[str, str | None]
    inputs: Mapping[str, str]
    folder: Path
    """The folder of the file, or the one above it where it is a host's own, as `.vscode` is."""

    def expanded(self, value: Any, *, is_setting: bool = False) -> Any:
        """Replace the variables everywhere in a JSON value; settings are what stands under `env` and `headers`.

        Raises:
            UnsetVariableError: one has no value.
        """
        match value:
            case str():
                return self._text(value, is_setting=is_setting)
            case list():
                return [self.expanded(item) for item in value]
            case dict():
                return {
                    key: self.expanded(item, is_setting=is_setting or key in ("env", "environment", "headers"))
                    for key, item in value.items()
                }
            case _:
                return value

    def _text(self, text: str, *, is_setting: bool) -> str:
        whole = WHOLE.fullmatch(text) if is_setting else None
        if whole and (found := self.environment.get(whole[1])) is not None:
            return found
        return VARIABLE.sub(self._replacement, text)

    def _replacement(self, match: re.Match[str]) -> str:
        kind, _, name = match["name"].rpartition(":")
        found = self._found(kind, name)
        if found is None:
            found = match["default"]
        if found is None:
            raise UnsetVariableError(_advice(kind, name))
        return found

    def _found(self, kind: str, name: str) -> str | None:
        match kind, name:
            case "env", _:
                return self.environment.get(name)
            case "input", _:
                return self.inputs.get(name)
            case "", _:
                found = self.environment.get(name)
                return self._predefined().get(name) if found is None else found
            case _:
                return None

    def _predefined(self) -> Mapping[str, str]:
        return {
            "workspaceFolder": str(self.folder),
            "workspaceFolderBasename": self.folder.name,
            "workspaceRoot": str(self.folder),
            "userHome": str(Path.home()),
            "cwd": str(Path.cwd()),
            "pathSeparator": "/",
            "/": "/",
        }


def workspace_of(path: Path) -> Path:
    """Return the folder that `${workspaceFolder}` stands for in a file."""
    folder = path.absolute().parent
    return folder.parent if folder.name.startswith(HIDDEN_FOLDER) else folder


def _advice(kind: str, name: str) -> str:
    match kind:
        case "input":
            return f"asks for the input {name}, which nobody can be asked for here; write ${{env:NAME}} in its place"
        case "env" | "":
            return f"needs the environment variable {name}"
        case _:
            return f"needs the variable {kind}:{name}, which is not known here"
