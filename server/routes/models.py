"""GET /v1/models and /v1/models/{id}."""

from fastapi import APIRouter
from openai.types import Model

from server.models import Models
from server.services import ServicesDep

router = APIRouter(tags=["models"])

OWNER = "ollama"


@router.get("/v1/models")
async def list_models(services: ServicesDep) -> dict[str, object]:
    """List the models that can be asked for."""
    return {"object": "list", "data": [_model(name, services.models) for name in await services.models.names()]}


@router.get("/v1/models/{name:path}")
async def retrieve_model(name: str, services: ServicesDep) -> Model:
    """Describe one model; its name may have slashes and colons in it."""
    await services.models.resolve(name)
    return _model(name, services.models)


def _model(name: str, models: Models) -> Model:
    return Model(id=name, object="model", created=models.since, owned_by=OWNER)
