"""How many values JSON text has, counted without parsing it: making objects of millions holds everybody up. Pure."""


def has_more_values(body: bytes, most: int) -> bool:
    """Say whether JSON text has more values than so many: each but the first is behind a comma or a bracket."""
    if _marks(body) <= most:
        return False
    text = body.replace(rb"\\", b"").replace(rb"\"", b"")  # what is left of quotation marks are those around strings
    if text.count(b'"') > 4 * most:  # each string is a value, or the key of one
        return True
    return _marks(b"".join(text.split(b'"')[::2])) > most


def _marks(text: bytes) -> int:
    return text.count(b",") + text.count(b"[") + text.count(b"{")
