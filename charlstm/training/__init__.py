"""Training: the only folder that imports torch."""

import ctypes
import os
import sys

# How threads wait for each other. It must be set before numpy and torch are imported, so code that
# trains imports this package first. benchmarks/overhead.py measures the effect.
#
# By default torch's OpenMP threads spin for milliseconds while they wait. If another process needs
# a core, they keep spinning while the thread they wait for cannot run, and training becomes many
# times slower.
os.environ.setdefault("GOMP_SPINCOUNT", "5000")
# NumPy's threads spin as well: those of the live sample would take a core away from torch.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# Memory allocation. By default glibc requests every large block from the system again, so each
# training step waits for about ten thousand pages to be zeroed. These settings make it reuse freed
# memory; docs/research/experiments/threads-and-memory.md has the measured gain.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # as in glibc's malloc.h
if sys.platform == "linux" and "MALLOC_MMAP_MAX_" not in os.environ:
    _mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries have none
    if _mallopt is not None:
        _mallopt(_MMAP_MAX, 0)
        _mallopt(_TRIM_THRESHOLD, 2**31 - 1)
