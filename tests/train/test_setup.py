"""What importing the training package sets up for the whole process."""

import os
import platform
import subprocess
import sys

import pytest

COUNT_FAULTS = """
import resource
import charlstm.train

def faults(rounds):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(rounds):
        b"x" * 48_000_000  # freed at once
        [b"x" * size for size in (3_000_000, 48_000_000, 9_000_000)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults(20)
print(faults(10))
"""


def page_faults(**variables: str) -> int:
    environment = {**os.environ, **variables}
    command = [sys.executable, "-c", COUNT_FAULTS]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told")
def test_freed_memory_is_used_again_unless_the_user_has_a_setting_of_his_own() -> None:
    assert page_faults() < 1_000
    assert page_faults(MALLOC_MMAP_MAX_="65536") > 10_000
