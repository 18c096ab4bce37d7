"""The values of fields that requests of several protocols have.

Source: OpenAI's published OpenAPI document.
"""

from typing import Annotated

from pydantic import BeforeValidator, Field, StrictStr, WithJsonSchema

ToolName = Annotated[StrictStr, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]


def _integral(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


# JSON's numbers are decimals: 10.0 is an integer too.
INTEGRAL = BeforeValidator(_integral)
MAX_INTEGER = 2**63 - 1
MaxTokens = Annotated[
    int,
    Field(strict=True, ge=1, le=MAX_INTEGER),
    INTEGRAL,
    # -1 asks for nothing; see the tables of parameters.
    WithJsonSchema({"type": "integer", "minimum": -1, "maximum": MAX_INTEGER, "not": {"const": 0}}),
]

Temperature = Annotated[float, Field(strict=True, ge=0, le=2)]
TopP = Annotated[float, Field(strict=True, ge=0, le=1)]
Penalty = Annotated[float, Field(strict=True, ge=-2, le=2)]

Metadata = Annotated[
    dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(strict=True, max_length=512)]], Field(max_length=16)
]
