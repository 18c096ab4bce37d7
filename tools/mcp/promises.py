"""Whether a tool's results are what its outputSchema says; a model gets them in any case."""

import logging
from collections.abc import Mapping
from typing import Any

log = logging.getLogger(__name__)


class Promises:
    """Says once of each tool that its results are not of the form that it promises."""

    def __init__(self) -> None:
        self._broken: set[str] = set()

    def check(self, tool: str, promise: Mapping[str, Any] | None, result: Mapping[str, Any]) -> None:
        """Compare a result with what was promised."""
        if promise is None or tool in self._broken or result.get("isError") is True:
            return
        if complaint := _complaint(promise, result.get("structuredContent")):
            self._broken.add(tool)
            log.warning("Results of the tool %r are not as its outputSchema says: %s", tool, complaint)


def _complaint(promise: Mapping[str, Any], structured: object) -> str | None:
    from jsonschema import validate  # these take a while to import, and few servers promise anything
    from referencing import Registry

    try:
        validate(structured, promise, registry=Registry())  # which fetches nothing that a schema refers to
    except Exception as error:  # a wrong schema is a broken promise too
        return str(error).partition("\n")[0]
    return None
