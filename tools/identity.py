"""The name and the version that MCP clients and servers exchange."""

from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version

NAME = "chat-agent"


def version() -> str:
    """Return the version that is installed; `0` where the code runs without being installed."""
    try:
        return installed_version(NAME)
    except PackageNotFoundError:
        return "0"
