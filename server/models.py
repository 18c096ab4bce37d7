"""GET /v1/models: the names under which clients may ask for models, and the models that answer."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Annotated, Literal, NamedTuple

from fastapi import Depends, Path, Request
from pydantic import BaseModel, ConfigDict

from graph.model.endpoint import is_among, listed
from graph.model.failures import ModelFailure
from graph.state import OUR_AGENT
from server.errors import NotFound, may_fail
from server.http.foreign_errors import as_api_error
from server.http.routing import Router

log = logging.getLogger(__name__)

OWNER = "ollama"
EVERYTHING_ELSE = "*"
FRESH_SECONDS = 60.0
MAX_ECHOED = 200


class Chosen(NamedTuple):
    """Which agent answers a request, and with which model of the endpoint."""

    agent: str
    model: str


class Models:
    """The configured model, agents that people bring, the endpoint's models, and aliases for all of them.

    Args:
        default: the configured model.
        agents: names of agents that people bring; each answers with the configured model.
        aliases: other names, and the models that answer to them; `*` is every name that is not known.
        among: the models of the endpoint that are offered; all of them if empty.
        fetch: returns the names of the endpoint's models.
    """

    def __init__(
        self,
        default: str,
        agents: Collection[str],
        aliases: Mapping[str, str],
        among: Sequence[str],
        fetch: Callable[[], Awaitable[Sequence[str]]],
    ) -> None:
        self.default, self.since = default, int(time.time())
        self._agents, self._aliases, self._among, self._fetch = agents, aliases, among, fetch
        self._fetched: Sequence[str] = ()
        self._fetched_at = float("-inf")
        self._fetching = asyncio.Lock()

    async def names(self) -> list[str]:
        """Return the names that clients are shown, each model once, the default first."""
        aliases = [alias for alias in self._aliases if alias != EVERYTHING_ELSE]
        shown = [self.default]
        for name in [*self._agents, *await self._offered(), *aliases]:
            if not is_among(name, shown):
                shown.append(name)
        return shown

    async def resolve(self, name: str) -> Chosen:
        """Return the agent and the model that a name stands for.

        Raises:
            NotFound: there is no such model.
        """
        if name in self._agents:
            return self._chosen(name)
        if is_among(name, [self.default]):
            return Chosen(OUR_AGENT, self.default)
        if name in self._aliases:
            return self._chosen(self._aliases[name])
        if is_among(name, await self._offered()):
            return Chosen(OUR_AGENT, name)
        if EVERYTHING_ELSE in self._aliases:
            return self._chosen(self._aliases[EVERYTHING_ELSE])
        raise NotFound(
            f"The model `{name[:MAX_ECHOED]}` does not exist or you do not have access to it. "
            f"There is: {listed(await self.names())}. MODEL_ALIASES gives models other names.",
            code="model_not_found",
        )

    def _chosen(self, name: str) -> Chosen:
        return Chosen(name, self.default) if name in self._agents else Chosen(OUR_AGENT, name)

    async def _offered(self) -> list[str]:
        async with self._fetching:
            if time.monotonic() - self._fetched_at > FRESH_SECONDS:
                try:
                    self._fetched = await self._fetch()
                except ModelFailure as error:  # the last known list is the best guess
                    log.warning("The models cannot be listed: %s", as_api_error(error).message)
                self._fetched_at = time.monotonic()
        return [name for name in self._fetched if not self._among or is_among(name, self._among)]


class Model(BaseModel):
    """A model that can be asked for."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    id: str
    object: Literal["model"]
    created: int
    """When the server started, in Unix seconds."""
    owned_by: str


class ModelList(BaseModel):
    """The models that can be asked for, the configured one first."""

    object: Literal["list"] = "list"
    data: list[Model]


async def _models(request: Request) -> Models:
    models: Models = request.app.state.models
    return models


ModelsDep = Annotated[Models, Depends(_models)]

router = Router(tags=["models"])


@router.get("/v1/models", responses=may_fail(401))
async def list_models(models: ModelsDep) -> ModelList:
    """List the models that can be asked for."""
    return ModelList(data=[_dump(name, models) for name in await models.names()])


@router.get("/v1/models/{name:path}", responses=may_fail(401, 404))
async def retrieve_model(name: Annotated[str, Path(description="The model's name.")], models: ModelsDep) -> Model:
    """Describe one model; its name may contain slashes and colons."""
    await models.resolve(name)
    return _dump(name, models)


def _dump(name: str, models: Models) -> Model:
    return Model(id=name, object="model", created=models.since, owned_by=OWNER)
