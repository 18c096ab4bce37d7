"""What a run yields beside the model's messages and the results of tools."""

from dataclasses import dataclass

from langchain_core.messages import BaseMessage

from tools.mcp.progress import Progress


@dataclass(frozen=True)
class ToolProgress:
    """How far a call of one of our tools has come, as its server says."""

    call_id: str
    progress: Progress


RunEvent = BaseMessage | ToolProgress
