"""The worker's handle of its device: one warm process that loads models and runs them. No torch is imported here."""

from collections.abc import Callable

import structlog

from app.contracts.catalog import PublishedModel
from app.contracts.extraction import ExtractionCommand, ExtractionResult
from app.contracts.models import ModelCard, ModelSpec
from app.contracts.progress import Progress, TellProgress
from app.processes.errors import ProcessDied
from app.processes.parent import ChildProcess
from app.processes.role import YIELDING, Role
from app.settings import Settings
from workers.device.lending import lent

EXTRACTOR = Role(
    name="extractor",
    module="workers.device.commands",
    time_setting="extraction_time_limit_seconds",
    memory_setting="extractor_memory_megabytes",
    niceness=YIELDING,
    remedy="take a smaller FORERANK_BATCH_SIZE",
)

log = structlog.stdlib.get_logger(__name__)


class Extractor:
    """Commands for the device, one at a time from any thread; all raise what `ChildProcess.call` raises."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._process = ChildProcess(settings, EXTRACTOR)

    @property
    def process_id(self) -> int | None:
        """Of the running process, if there is one."""
        return self._process.process_id

    def inspect_model(self, spec: ModelSpec, *, should_stop: Callable[[], bool] | None = None) -> ModelCard:
        """The model's card; see `workers.device.loading.inspect_model`."""
        return ModelCard.read(self._process.call("inspect_model", spec.plain(), should_stop=should_stop))

    def publish_catalog(self) -> list[PublishedModel]:
        """The pre-trained names of the installed timm; see `workers.catalog.publish.publish_catalog`."""
        return [PublishedModel.read(entry) for entry in self._process.call("publish_catalog", {})]

    def extract(
        self,
        command: ExtractionCommand,
        *,
        progress: TellProgress | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> ExtractionResult:
        """Run a model over a sample; see `workers.device.extraction.extract`.

        A process that died is replaced once, for the kernel's out-of-memory killer may have ended it; if it died after
        the batch size was known, the second attempt takes half of it. The report's ``warnings`` say so.
        """
        inputs = (command.card.input, *command.transforms_of_job)
        keys = command.keys.values()
        with lent(self._settings, command.dataset_id, command.sample_indices, inputs, keys):
            return self._extract(command, progress, should_stop)

    def _extract(
        self, command: ExtractionCommand, progress: TellProgress | None, should_stop: Callable[[], bool] | None
    ) -> ExtractionResult:
        batch_size: int | None = None

        def follow(event: Progress) -> None:
            nonlocal batch_size
            batch_size = event.batch_size or batch_size
            if progress is not None:
                progress(event)

        def attempt(command: ExtractionCommand) -> ExtractionResult:
            return ExtractionResult.read(
                self._process.call("extract", command.plain(), progress=follow, should_stop=should_stop)
            )

        try:
            return attempt(command)
        except ProcessDied as first:
            death, died_with = first, batch_size
        log.warning("the extractor died; once more", reason=death.detail, batch_size=died_with)
        try:
            halved = None if died_with is None else max(1, died_with // 2)
            report = attempt(command if halved is None else command.model_copy(update={"batch_size": halved}))
        except ProcessDied as again:
            tried = "" if batch_size is None else f"; so it went with a batch size of {died_with} and of {batch_size}"
            raise ProcessDied(f"{again.detail}, twice{tried}") from again
        if died_with is None:
            return report
        warning = (
            f"batch halved: {death.detail}; extracted with a batch size of {report.batch_size} instead of "
            f"{died_with}, which moves features by about 1e-7"
        )
        return report.model_copy(update={"warnings": (*report.warnings, warning)})

    def close(self) -> None:
        """Kill the process; a command that runs, and any later one, raises `Stopping`."""
        self._process.close()

    def __enter__(self) -> "Extractor":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
