"""The model in torch: what importing it must have done."""

import os
import subprocess
import sys

import pytest

FIRST_AND_SECOND = """
import charlstm.training
from charlstm.training import network
import torch

torch.set_num_threads(2)
numbers = torch.linspace(1e-9, 1e-8, 5000)
print(torch.equal(numbers.sqrt(), numbers.sqrt()))
"""
PROCESSES = 12
"""Without the first call on one thread, about one process in six computes other roots at first."""


@pytest.mark.slow
def test_a_function_computes_the_same_the_first_time_as_later() -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    command = [sys.executable, "-c", FIRST_AND_SECOND]
    for _ in range(PROCESSES):
        process = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert process.stdout == "True\n", process.stderr
