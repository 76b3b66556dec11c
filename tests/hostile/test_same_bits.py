"""The same seed gives the same bits in another process, with one thread and with two."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import torch
from estimator_cases import TINY, counts

from kalmanssl import KalmanSSL

TESTS = Path(__file__).resolve().parents[1]
SETTINGS = {**TINY, "latent_dim": 4, "state_dim": 8, "hidden": (64,), "window": 32, "steps_per_epoch": 5}


def digest() -> str:
    """Return a checksum of the weights of a fit and of its latents.

    The recording is so long that torch would use several threads for its first components and for its latents.
    """
    activity = counts(30, 6000)
    model = KalmanSSL(**SETTINGS).fit(activity)
    checksum = hashlib.sha256()
    for value in model.model_.state_dict().values():
        checksum.update(value.numpy().tobytes())
    checksum.update(model.transform(activity).mean.tobytes())
    return checksum.hexdigest()


def start(threads: str) -> subprocess.Popen[str]:
    """Start a process that prints the checksum."""
    paths = os.pathsep.join([str(TESTS.parent), str(TESTS / "hostile")])
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "PYTHONPATH": paths}
    command = [sys.executable, "-c", "from test_same_bits import digest; print(digest())"]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_the_number_of_threads_and_the_process_change_no_bit() -> None:
    others = [start(threads) for threads in ("1", "2")]  # beside the fits in this process
    before = torch.get_num_threads()
    found = set()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.add(digest())
    finally:
        torch.set_num_threads(before)
    for other in others:
        output, errors = other.communicate(timeout=300)
        assert other.returncode == 0, errors[-2000:]
        found.add(output.strip())
    assert len(found) == 1
