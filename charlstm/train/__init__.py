"""Training: the only folder that imports torch."""

import os

# torch's OpenMP threads wait for each other by spinning, by default for milliseconds. Where
# something else wants a core too, they spin while the thread that they wait for does not run,
# and training gets many times slower. docs/experiments.md has the figures, and what a short spin
# costs on a quiet machine is still to be measured. It must be set before torch is imported.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
