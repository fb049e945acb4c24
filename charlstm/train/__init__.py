"""Training: the only folder that imports torch."""

import os

# How threads wait for each other; it must be set before numpy and torch are imported, so whoever
# trains imports this first. benchmarks/overhead.py measures it, docs/benchmarks.md has the figures.
#
# torch's OpenMP threads spin while they wait, by default for milliseconds. Where something else
# wants a core too, they spin while the thread that they wait for does not run, and training gets
# many times slower.
os.environ.setdefault("GOMP_SPINCOUNT", "5000")
# numpy's threads spin as well: those of the live sample would take a core from torch's.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
