"""What a process on the device needs of buckets, and what it leaves for the shared storage.

That process reads what strangers send, so it has no credentials: the worker has everything lie in this host's folders.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

from app.contracts.models import InputConfiguration
from app.settings import Settings
from workers.images.cache import ImageCache
from workers.images.index import IndexStore
from workers.images.places import at_hand
from workers.store.features import entries_of


@contextmanager
def lent(
    settings: Settings,
    dataset_id: str,
    sample_indices: Sequence[int],
    inputs: Sequence[InputConfiguration],
    keys: Iterable[str],
) -> Iterator[None]:
    """Lend the images of a sample; keep the entries of ``keys`` and the decoded images at a clean end.

    Args:
        inputs: for which images may be decoded; those for the first are fetched if some host has decoded them.
    """
    index = IndexStore(settings).open(dataset_id)
    with ExitStack() as held:
        held.enter_context(at_hand(index.spec, dataset_id, settings))
        if settings.store_url:
            held.enter_context(ImageCache(settings).lend(index, sample_indices, inputs))
            held.enter_context(entries_of(settings).lend(list(keys), list(keys)))
        yield
