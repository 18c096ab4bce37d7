"""What the events of a run tell of it, for the log and the metrics."""

from collections.abc import Iterable

from graph.events import ClientCallDelta, MessageEnded, Reasoning, Refusal, RunEvent, Text, ToolEnded, ToolStarted
from server.http.stats import RequestStats


def observe(events: Iterable[RunEvent], stats: RequestStats) -> None:
    """Note what the reader of a run is told."""
    for event in events:
        match event:
            case Text(text=text) | Refusal(text=text) | Reasoning(text=text):
                stats.says_something(len(text))
            case ClientCallDelta(arguments=arguments):
                stats.says_something(len(arguments))
            case MessageEnded(usage=usage):
                if usage:
                    stats.uses_tokens(usage["input_tokens"], usage["output_tokens"])
            case ToolStarted(call_id=call_id, name=name):
                stats.starts_tool(call_id, name)
            case ToolEnded(call_id=call_id, failed=failed):
                stats.ends_tool(call_id, failed=failed)
