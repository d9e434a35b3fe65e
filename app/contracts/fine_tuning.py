"""One fine-tuning of one model: what the trainer is told, of a trial's fold and of a full fine-tuning alike."""

from app.contracts.base import Contract
from app.contracts.models import InputConfiguration, ModelCard, ModelSpec
from app.contracts.tasks import TaskName


class FineTuningRecipe(Contract):
    """What determines the numbers of a run, besides model, images and split; see `workers.device.fine_tuning.Recipe`.

    Attributes:
        rate_multiple: of the body's usual learning rate, which depends on the kind of network; None: the usual one, or
            a lower one for a network that it makes worse.
    """

    epochs: int
    rate_multiple: float | None = None
    shift: float = 0.0
    flip: bool = False
    seed: int = 0


class FineTuningCommand(Contract):
    """Train on some images of a sample and predict others.

    Attributes:
        dataset_id: whose index says what the images are.
        sample_indices: (N,) positions in it.
        train, held_out: positions within the sample.
        key: under which the predictions are stored.
        input: the transform, with the model's own mean and standard deviation.
        weights: file for the fine-tuned weights, below the folder of fine-tunings; None: they are not kept.
    """

    task: TaskName
    spec: ModelSpec
    card: ModelCard
    dataset_id: str
    sample_indices: tuple[int, ...]
    train: tuple[int, ...]
    held_out: tuple[int, ...]
    key: str
    input: InputConfiguration
    recipe: FineTuningRecipe
    weights: str | None = None


class FineTuningResult(Contract):
    """What a run gave.

    Attributes:
        nll: mean negative logarithm of the probability of the true class, over the held-out images.
        accuracy, probe_accuracy: of the fine-tuned model, and of the linear probe that it started from.
        images: held out.
        side: of the images, in pixels; a model that cannot take the asked one has its own.
        body_rate: the peak learning rate of the pre-trained weights.
        part: images computed at once; less than a batch if memory was short.
    """

    nll: float
    accuracy: float
    probe_accuracy: float
    images: int
    side: int
    body_rate: float
    part: int
    seconds: float
    device: str
    warnings: tuple[str, ...] = ()
