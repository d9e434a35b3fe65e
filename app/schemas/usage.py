"""What a key stores, and how much it may."""

from pydantic import Field

from app.schemas.base import Answer


class StoredDataset(Answer):
    """An upload and its size."""

    id: str
    name: str
    bytes: int = Field(description="Of its images, unpacked.")


class UsageAnswer(Answer):
    """What a key stores. Deleting a data set frees its bytes at once."""

    owner: str = Field(description="The id of the key; `local` without keys.")
    used_bytes: int = Field(description="Of all uploads of this key.")
    quota_bytes: int | None = Field(description="How many there may be (`FORERANK_OWNER_QUOTA_GIGABYTES`); null: any.")
    free_bytes: int | None = Field(description="How many may still come; null: any.")
    datasets: list[StoredDataset] = Field(description="The largest uploads first, a hundred at most.")
