"""What all contracts share."""

from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

# Content whose members are not ours to name: a metric's parameters and details, arguments of timm's factory.
JsonObject = dict[str, Any]
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


class Contract(BaseModel):
    """A value that one part of the service hands to another, or stores for it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def read(cls, value: Any) -> Self:
        """What another process or an earlier version wrote; members that this version does not know are ignored."""
        return cls.model_validate(value, strict=False, extra="ignore")

    def plain(self) -> JsonObject:
        """Out of JSON's types only."""
        return self.model_dump(mode="json")


class Body(Contract):
    """What a client writes: text is never taken for a number, and every number is finite."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)
