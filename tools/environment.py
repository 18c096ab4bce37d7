"""Settings from environment variables and `.env`, read in the forms in which people and programs write them."""

import json
import re
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from tools.addresses import http_address

ENV_FILE = ".env"
# UTF-8 with the byte order mark that editors on Windows put before it, or without.
ENCODING = "utf-8-sig"

# `docker run --env-file` hands quotes and comments on as they are written.
QUOTED = re.compile(r"""(?P<quote>["'])(?P<text>(?:(?!(?P=quote)).)*)(?P=quote)(?:\s+#.*)?""", re.DOTALL)
COMMENT = re.compile(r"\s+#.*")


class EnvironmentSettings(BaseSettings):
    """Settings whose values come without the blanks, quotes and comments around them; an empty one counts as unset."""

    model_config = SettingsConfigDict(
        env_file=ENV_FILE, env_file_encoding=ENCODING, env_ignore_empty=True, extra="ignore"
    )

    free_text: ClassVar[frozenset[str]] = frozenset()
    """Settings in which "#" does not begin a comment."""

    @model_validator(mode="before")
    @classmethod
    def _tidy(cls, values: dict[str, Any]) -> dict[str, Any]:
        tidied = {
            name: tidy(value, with_comment=name not in cls.free_text) if isinstance(value, str) else value
            for name, value in values.items()
        }
        return {name: value for name, value in tidied.items() if value != ""}


def tidy(text: str, *, with_comment: bool = True) -> str:
    """Return a value without surrounding blanks, line ends, one pair of quotes, and a comment behind it."""
    text = text.strip()
    if quoted := QUOTED.fullmatch(text):
        return quoted["text"].strip()
    return COMMENT.sub("", text, count=1) if with_comment and "\n" not in text else text


def _http_address(value: str) -> str:
    http_address(value)
    return value


HttpAddress = Annotated[str, AfterValidator(_http_address)]
"""The address of an HTTP server, as it is written."""


def listed(value: object) -> object:
    """Return the items of a comma-separated text, which may also be a JSON list."""
    if not isinstance(value, str):
        return value
    if value.startswith("["):
        try:
            return tuple(str(item) for item in json.loads(value) if item)
        except ValueError:  # a shell has taken the quotes away
            value = value.removeprefix("[").removesuffix("]")
    return tuple(item for part in value.split(",") if (item := tidy(part)))
