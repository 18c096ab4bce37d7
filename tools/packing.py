"""Whether an HTTP response is packed: unpacked, 40 kB may be 40 MB, so we ask for none and read none. Pure."""

from collections.abc import Mapping

UNPACKED = "identity"


def packing(headers: Mapping[str, str]) -> str:
    """Return how a response is packed, such as `gzip`; empty if it is not."""
    return headers.get("content-encoding", UNPACKED).strip().lower().removeprefix(UNPACKED)[:20]
