"""What all request and answer models share."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

# Of any request: as many models as a zoo or a ranking may name.
LONGEST_LIST = 5000
LONGEST_NAME = 200


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("must not hold control characters")
    if text != text.strip():
        raise ValueError("must not begin or end with a space")
    return text


Text = Annotated[str, AfterValidator(_printable)]
Name = Annotated[
    Text, Field(min_length=1, max_length=LONGEST_NAME, description="A label of your own; unique among yours.")
]
Reference = Annotated[Text, Field(min_length=1, max_length=300)]


class Body(BaseModel):
    """A request: unknown members are errors, so that a misspelt option is never ignored; so is text for a number."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Answer(BaseModel):
    """An answer, made from a table's row or from plain values."""

    model_config = ConfigDict(from_attributes=True)


class Problem(BaseModel):
    """Why something failed (RFC 9457)."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(examples=["urn:forerank:problem:model-problem"])
    title: str
    detail: str = Field(description="What went wrong, and how to mend it.")


class OwnedAnswer(Answer):
    """What every stored thing says of itself."""

    id: str
    name: str | None
    owner: str = Field(description="The id of the key that made it; `local` without keys.")
    shared: bool = Field(description="Whether other keys may see and use it.")
    created_at: datetime


JsonObject = dict[str, Any]
