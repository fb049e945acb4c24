"""Training: the only folder that imports torch."""

import ctypes
import os
import sys

# How threads wait for each other; it must be set before numpy and torch are imported, so whoever
# trains imports this first. benchmarks/overhead.py measures it.
#
# torch's OpenMP threads spin while they wait, by default for milliseconds. Where something else
# wants a core too, they spin while the thread that they wait for does not run, and training gets
# many times slower.
os.environ.setdefault("GOMP_SPINCOUNT", "5000")
# numpy's threads spin as well: those of the live sample would take a core from torch's.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# Where memory comes from. By default glibc asks the system anew for every large block, so that each
# step of training waits for some ten thousand fresh pages to be filled with zeros. It shall keep
# what it has freed; docs/research/experiments/threads-and-memory.md has what that gains.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # as in glibc's malloc.h
if sys.platform == "linux" and "MALLOC_MMAP_MAX_" not in os.environ:
    _mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries have none
    if _mallopt is not None:
        _mallopt(_MMAP_MAX, 0)
        _mallopt(_TRIM_THRESHOLD, 2**31 - 1)
