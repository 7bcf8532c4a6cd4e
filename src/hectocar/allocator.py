"""Memory that is freed and needed again at once: activations of a step, slices of a prediction, decoded photographs."""

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Lets the C library keep what is freed, until the process ends.

    By default glibc returns large blocks to the kernel at once, which hands them out again page by page, zeroed: at every
    step of mobilenetv2 (batch 32, 160 px) 90,000 page faults, a third of its time. A step needs the same blocks as the last
    one, so the most memory in use stays what it was. For processes of ours: a program that imports hectocar decides itself.

    Returns:
        Whether the C library took it: False on systems without glibc.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    # An older glibc may take no such threshold for its maps, and says so by a 0.
    return mallopt is not None and all(mallopt(name, _NEVER) for name in (_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD))
