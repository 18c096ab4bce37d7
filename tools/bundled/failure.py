"""How a tool says that it could not do its work."""


class ToolFailure(Exception):
    """One short sentence that a model can relay to its user; the cause goes to the log."""
