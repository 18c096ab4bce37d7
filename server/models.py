"""The names under which clients may ask for models, and the models that answer."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from server.errors import NotFound

ANY = "*"


@dataclass(frozen=True)
class Models:
    """The configured model, and other names for models; the alias `*` takes every name that is not known."""

    default: str
    aliases: Mapping[str, str]
    since: int = field(default_factory=lambda: int(time.time()))
    """When they became available, as a Unix time in seconds."""

    def names(self) -> list[str]:
        """Return the names that clients are shown, the default first."""
        return list(dict.fromkeys([self.default, *(name for name in self.aliases if name != ANY)]))

    def resolve(self, name: str) -> str:
        """Return the model that answers to a name.

        Raises:
            NotFound: none does.
        """
        if name == self.default:
            return name
        if (model := self.aliases.get(name, self.aliases.get(ANY))) is not None:
            return model
        raise NotFound(f"The model `{name}` does not exist or you do not have access to it.", code="model_not_found")
