"""Memory of freed arrays."""

import subprocess
import sys
from pathlib import Path

import pytest

from kalmanssl.utils.memory import _malloc_trim

RESIDENT = """
import os
import numpy as np
from kalmanssl.utils.memory import return_freed_memory

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

arrays = [np.ones(100_000 // 8) for _ in range(2000)]  # smaller than what the C library maps by itself
del arrays[::2]
before = resident()
return_freed_memory()
print(before - resident(), sum(array.sum() for array in arrays))
"""


@pytest.mark.skipif(_malloc_trim() is None or not Path("/proc/self/statm").exists(), reason="needs Linux with glibc")
def test_memory_of_freed_arrays_between_others_is_returned():
    found = subprocess.run([sys.executable, "-c", RESIDENT], capture_output=True, text=True, check=True, timeout=60)
    returned, total = map(float, found.stdout.split())
    assert 85 < returned < 115  # MB: all but the partial pages at the ends
    assert total == 1000 * (100_000 // 8)
