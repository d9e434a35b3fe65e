"""Zoos: a list of models, or what a model has to be."""

from pydantic import Field, model_validator

from app.contracts.base import LONGEST_LIST, Body, Name, Reference
from app.contracts.states import ResourceState
from app.contracts.zoos import ZooQuery
from app.schemas.base import Answer, OwnedAnswer, Problem


class ZooCreate(Body):
    """A named set of models, listed or found by a query."""

    model_config = Body.model_config | {
        "json_schema_extra": {
            "examples": [
                {"name": "small", "models": ["mobilenetv2_100.tv_in1k", "tf_efficientnet_lite0.in1k"]},
                {"name": "light", "query": {"max_parameters": 10_000_000, "license": ["apache-2.0"]}},
            ]
        }
    }

    name: Name
    models: list[Reference] | None = Field(
        None,
        min_length=1,
        max_length=LONGEST_LIST,
        description="Ids or names of registered models; a name that is not registered is registered, as "
        "`POST /v1/models` would.",
    )
    query: ZooQuery | None = Field(None, description="Instead of `models`.")
    shared: bool = False

    @model_validator(mode="after")
    def _one_kind(self) -> "ZooCreate":
        if (self.models is None) == (self.query is None):
            raise ValueError("give either `models` or `query`")
        return self


class ZooMember(Answer):
    """A model of a zoo."""

    id: str
    name: str
    state: ResourceState
    problem: Problem | None = Field(description="Why the model cannot be used.")


class Unavailable(Answer):
    """A name that could not be registered."""

    name: str
    problem: Problem


class ZooAnswer(OwnedAnswer):
    """A zoo with its models; of a query, those that it finds now."""

    query: ZooQuery | None
    models: list[ZooMember]
    unavailable: list[Unavailable] = Field(description="What could not be registered, and why.")
    unregistered: int = Field(
        description="Models of the catalog that the query finds and the next ranking will register."
    )
