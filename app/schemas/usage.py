"""What a key stores, and how much it may."""

from typing import Literal

from pydantic import Field

from app.schemas.base import Answer


class StoredThing(Answer):
    """An upload, or the weights that a fine-tuning kept; `DELETE /v1/{kind}s/{id}` frees its bytes."""

    kind: Literal["dataset", "finetune"]
    id: str
    name: str | None
    bytes: int = Field(description="On disk, unpacked.")


class UsageAnswer(Answer):
    """What a key stores. What is deleted frees its bytes at once."""

    owner: str = Field(description="The id of the key; `local` without keys.")
    used_bytes: int = Field(description="Of all uploads and fine-tuned weights of this key.")
    quota_bytes: int | None = Field(description="How many there may be (`FORERANK_OWNER_QUOTA_GIGABYTES`); null: any.")
    free_bytes: int | None = Field(description="How many may still come; null: any.")
    largest: list[StoredThing] = Field(description="The largest first, a hundred at most.")
