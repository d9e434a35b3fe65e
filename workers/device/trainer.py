"""The worker's handle of what fine-tunes: a process beside the extractor's, so that no ranking waits for a trial."""

from collections.abc import Callable

from app.contracts.fine_tuning import FineTuningCommand, FineTuningResult
from app.contracts.progress import TellProgress
from app.processes.parent import ChildProcess
from app.processes.role import YIELDING, Role
from app.settings import Settings
from app.shared_home import share_file
from workers.device.lending import lent

TRAINER = Role(
    name="trainer",
    module="workers.device.training_commands",
    time_setting="trial_time_limit_seconds",
    memory_setting="extractor_memory_megabytes",
    niceness=YIELDING,
    remedy="take a smaller model or smaller images",
)


class Trainer:
    """Fine-tunings, one at a time from any thread; all raise what `ChildProcess.call` raises."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._process = ChildProcess(settings, TRAINER)

    @property
    def process_id(self) -> int | None:
        """Of the running process, if there is one."""
        return self._process.process_id

    def fine_tune(
        self,
        command: FineTuningCommand,
        *,
        progress: TellProgress | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> FineTuningResult:
        """See `workers.device.training.fine_tune`."""
        inputs = (command.input, command.card.input)
        with lent(self._settings, command.dataset_id, command.sample_indices, inputs, [command.key]):
            answer = self._process.call("fine_tune", command.plain(), progress=progress, should_stop=should_stop)
        if command.weights is not None:
            share_file(self._settings, self._settings.fine_tunings_folder / command.weights)
        return FineTuningResult.read(answer)

    def close(self) -> None:
        """Kill the process; a command that runs, and any later one, raises `Stopping`."""
        self._process.close()
