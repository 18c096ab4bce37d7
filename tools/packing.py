"""Whether an HTTP response is compressed: 40 kB may become 40 MB, so we ask for none and read none. Pure."""

from collections.abc import Mapping

UNPACKED = "identity"


def packing(headers: Mapping[str, str]) -> str:
    """Return the compression of a response, such as `gzip`; empty if it has none."""
    return headers.get("content-encoding", UNPACKED).strip().lower().removeprefix(UNPACKED)[:20]
