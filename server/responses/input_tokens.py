"""POST /v1/responses/input_tokens: how many tokens the model would read of a request, without asking it.

Source: OpenAI's published OpenAPI document, `TokenCountsResource`.
"""

from datetime import datetime
from typing import Literal

from fastapi import Request
from langchain_core.messages import SystemMessage

from graph.model.tokens import estimated_prompt
from graph.offers import offered
from graph.prompts import layered_prompt
from graph.state import OUR_AGENT
from server.errors import may_fail
from server.http.routing import Router
from server.models import ModelsDep
from server.responses.asked import whole_request
from server.responses.background import BackgroundDep
from server.responses.request import ResponseRequest
from server.responses.response import Shape
from server.sessions.dependencies import SessionsDep

router = Router(tags=["responses"])


class InputTokens(Shape):
    """The tokens of a prompt, estimated."""

    object: Literal["response.input_tokens"] = "response.input_tokens"
    input_tokens: int
    """Of the agent's own prompt and tools too."""


@router.post("/v1/responses/input_tokens", responses=may_fail(400, 401, 404, 409, 413, 415, 429, 500, 503))
async def count_input_tokens(
    body: ResponseRequest, request: Request, sessions: SessionsDep, models: ModelsDep, background: BackgroundDep
) -> InputTokens:
    """Estimate how many tokens the model reads in the first step of a request; nothing is run or stored."""
    turn = await whole_request(body, request, sessions, models, background)
    if turn.agent != OUR_AGENT:  # nobody knows what a graph of others tells its model
        return InputTokens(input_tokens=await estimated_prompt(turn.messages, ()))
    settings = request.app.state.settings
    system = SystemMessage(layered_prompt(settings.system_prompt, turn.context.instructions, datetime.now().date()))
    tools = offered(sessions.assembly.toolbox, turn.context, rounds=0, max_rounds=settings.max_tool_rounds).tools
    return InputTokens(input_tokens=await estimated_prompt([system, *turn.messages], tools))
