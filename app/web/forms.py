"""What the fields of a form mean."""

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from app.errors import Invalid

Meaning = TypeVar("Meaning", bound=BaseModel)


def filled(kind: type[Meaning], /, **fields: Any) -> Meaning:
    """The request body that the fields mean; what was left empty is left out.

    Raises:
        Invalid: they mean none.
    """
    try:
        return kind.model_validate({name: value for name, value in fields.items() if value not in ("", [], None)})
    except ValidationError as error:
        places = [
            {"pointer": "/" + "/".join(map(str, entry["loc"])), "detail": entry["msg"].removeprefix("Value error, ")}
            for entry in error.errors()
        ]
        raise Invalid("; ".join(place["detail"] for place in places), errors=places) from error
