"""Muon's orthogonalisation on the Gram matrix against the plain iteration, run by turns.

    python benchmarks/optimiser.py --runs 15

Prints, for the hidden matrices of some widths, the median time of each, the ratio pair by pair
(median, least and greatest), and the extreme singular values of both results.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from charlstm.train.optimiser import NEWTON_SCHULZ, NEWTON_SCHULZ_STEPS, orthogonalise


def plain(matrix: Tensor, dtype: torch.dtype) -> Tensor:
    """The same polynomial applied to the whole matrix five times (Jordan et al. 2024)."""
    a, b, c = NEWTON_SCHULZ
    x = (matrix / (matrix.norm() + 1e-7)).to(dtype)
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = x.T @ x
        polynomial = torch.addmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.addmm(x, x, polynomial, beta=a)
    return x.to(matrix.dtype)


def seconds(function: Callable[[Tensor, torch.dtype], Tensor], matrix: Tensor) -> float:
    """Time of one call."""
    start = time.perf_counter()
    function(matrix, torch.bfloat16)
    return time.perf_counter() - start


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--hidden", type=int, nargs="+", default=[256, 512, 1024])
    arguments = parser.parse_args()
    torch.manual_seed(0)
    print("H     gram ms  plain ms  gram/plain (least-greatest)   singular values gram | plain")
    for hidden in arguments.hidden:
        matrix = torch.randn(4 * hidden, hidden) * torch.logspace(0, -3, hidden)
        pairs = []
        for run in range(arguments.runs + 1):
            pair = seconds(orthogonalise, matrix), seconds(plain, matrix)
            if run:
                pairs.append(pair)
        ratios = [mine / theirs for mine, theirs in pairs]
        values = [
            torch.linalg.svdvals(function(matrix, torch.bfloat16))
            for function in (orthogonalise, plain)
        ]
        extremes = " | ".join(f"{v.min().item():.4f}-{v.max().item():.4f}" for v in values)
        print(
            f"{hidden:<5} {1e3 * statistics.median(p[0] for p in pairs):7.1f} "
            f"{1e3 * statistics.median(p[1] for p in pairs):9.1f}  "
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"
            f"   {extremes}"
        )


if __name__ == "__main__":
    main()
