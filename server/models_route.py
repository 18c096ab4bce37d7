"""GET /v1/models and /v1/models/{id}."""

from typing import Annotated, Literal

from fastapi import APIRouter, Path
from pydantic import BaseModel

from server.chat.response import Model
from server.docs.document import may_fail
from server.models import Models
from server.sessions.dependencies import ServicesDep

router = APIRouter(tags=["models"])

OWNER = "ollama"


class ModelList(BaseModel):
    """The models that can be asked for, the configured one first."""

    object: Literal["list"] = "list"
    data: list[Model]


@router.get("/v1/models", responses=may_fail(401))
async def list_models(services: ServicesDep) -> ModelList:
    """List the models that can be asked for."""
    return ModelList(data=[_model(name, services.models) for name in await services.models.names()])


@router.get("/v1/models/{name:path}", responses=may_fail(401, 404))
async def retrieve_model(name: Annotated[str, Path(description="The model's name.")], services: ServicesDep) -> Model:
    """Describe one model; its name may have slashes and colons in it."""
    await services.models.resolve(name)
    return _model(name, services.models)


def _model(name: str, models: Models) -> Model:
    return Model(id=name, object="model", created=models.since, owned_by=OWNER)
