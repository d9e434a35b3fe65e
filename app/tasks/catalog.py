"""The tasks by name."""

from collections.abc import Mapping
from types import MappingProxyType

from app.contracts.tasks import TaskName
from app.tasks.classification import Classification
from app.tasks.task import Task

TASKS: Mapping[TaskName, Task] = MappingProxyType({task.name: task for task in (Classification(),)})
