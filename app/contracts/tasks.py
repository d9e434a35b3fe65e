"""Tasks: what is asked of images, by name."""

from typing import Literal

TaskName = Literal["classification"]
