"""Gives freed memory back to the system.

oneDNN keeps the code that it compiled for the last 1,024 shapes of operations, whichever thread met them:
up to 200 MB. (What each thread keeps besides is the matter of `workers`.) And two allocators keep what is
freed. TensorFlow's for oneDNN takes regions of doubling size and never gives one back: a server that had
once loaded two versions of 600 MB held 1.1 GB for nothing, and the next region was as large as all before.
Then glibc (elsewhere nothing happens here): pieces above a threshold go back at once, but it raises that
threshold itself, to up to 32 MB, when such a piece is freed, and from then on tensors of that size lie
among others that live longer. See mallopt(3) and malloc_trim(3).
"""

from __future__ import annotations

import ctypes
import os

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
# Tensors of a usual request are smaller; to ask the system for one of this size takes a small part of the
# time that it takes to fill it.
_LARGE_BYTES = 4 << 20
# New threads find the usual shapes among as many; they take 20 MB at most.
_SHAPES = "128"
# The environment's own settings of glibc stay.
_OF_USER = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES")


def give_back() -> None:
    """Lets large pieces go back to the system as soon as they are freed.

    Call it before TensorFlow is imported. Settings of the environment stay as they are.
    """
    os.environ.setdefault("TF_ONEDNN_USE_SYSTEM_ALLOCATOR", "1")
    if "DNNL_PRIMITIVE_CACHE_CAPACITY" not in os.environ:  # its older name
        os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", _SHAPES)
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt") and not any(name in os.environ for name in _OF_USER):
        library.mallopt(_MMAP_THRESHOLD, _LARGE_BYTES)
        library.mallopt(_TRIM_THRESHOLD, 2 * _LARGE_BYTES)  # glibc's own ratio of the two


def give_back_now() -> None:
    """Gives every free page of glibc's back; other threads go on. Takes milliseconds."""
    library = ctypes.CDLL(None)
    if hasattr(library, "malloc_trim"):
        library.malloc_trim(0)
