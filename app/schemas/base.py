"""What all request and answer models share."""

from datetime import datetime
from typing import Self

from pydantic import BaseModel, ConfigDict, Field

from app.contracts.problems import ProblemDocument


class Answer(BaseModel):
    """An answer, made from a table's row or from plain values."""

    model_config = ConfigDict(from_attributes=True)


class Problem(BaseModel):
    """Why something failed (RFC 9457)."""

    model_config = ConfigDict(extra="allow", from_attributes=True)

    type: str = Field(examples=["urn:forerank:problem:model-problem"])
    title: str
    detail: str = Field(description="What went wrong, and how to mend it.")

    @classmethod
    def of(cls, document: ProblemDocument | None) -> Self | None:
        """Of a stored row."""
        return None if document is None else cls.model_validate(document)


class OwnedAnswer(Answer):
    """What every stored thing says of itself."""

    id: str
    name: str | None
    owner: str = Field(description="The id of the key that made it; `local` without keys.")
    shared: bool = Field(description="Whether other keys may see and use it.")
    created_at: datetime
