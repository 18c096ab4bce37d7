"""The agent's own words to the model. Pure."""

from collections.abc import Sequence
from datetime import date

DEFAULT_PROMPT = (
    "You are a helpful assistant. Answer in the language of the question. Use a tool only when the answer needs it; "
    "otherwise answer directly. When a tool has answered, answer from its result and make nothing up."
)


def layered_prompt(prompt: str, instructions: Sequence[str], today: date) -> str:
    """Put a request's own instructions after the agent's prompt; the date changes once a day, so prefixes cache."""
    return "\n\n".join([f"{prompt}\nToday is {today:%A, %Y-%m-%d}.", *instructions])
