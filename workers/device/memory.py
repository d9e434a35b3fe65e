"""How torch says that memory is short."""

import torch


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the device, or the host within the limit of this process, had no memory left."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    # torch's CPU allocator has no exception type of its own.
    text = str(error).lower()
    return "defaultcpuallocator" in text or "out of memory" in text or "bad_alloc" in text
