"""One process for each method, so that each has its own threads, caches and peak memory, and can be stopped."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from filter.methods import METHODS

__all__ = ["FailedError", "Processes", "TooLongError"]

START_S = 120.0  # for a process to start and import its libraries


class FailedError(Exception):
    """A method cannot be measured here; the message says why."""


class TooLongError(FailedError):
    """The method takes longer than the limit."""


class Processes:
    """The processes of the methods, each started when it is first needed.

    Parameters
    ----------
    limit_s : float
        Limit of one call, including compilation, in wall seconds.
    """

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        self._running: dict[str, _Process] = {}

    def ask(self, method: str, *, limit_s: float | None = None, **command: Any) -> dict[str, Any]:
        """Send a command to the process of a method and return its answer.

        Raises
        ------
        FailedError
            If the command fails or the process ends.
        TooLongError
            If there is no answer in time; the process is then stopped.
        """
        starting = method not in self._running
        if starting:
            self._running[method] = _Process(method)
        try:
            return self._running[method].ask((limit_s or self.limit_s) + (START_S if starting else 0), **command)
        except EOFError as error:
            self._stop(method)
            raise FailedError(str(error)) from None
        except TooLongError:
            self._stop(method)
            raise

    def _stop(self, method: str) -> None:
        self._running.pop(method).stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for method in list(self._running):
            self._stop(method)


class _Process:
    """The process of one method, see `filter.worker`."""

    def __init__(self, method: str) -> None:
        threads = METHODS[method].threads
        variables = {"JAX_PLATFORMS": "cpu"}
        for library in ("OMP", "MKL", "OPENBLAS", "NUMBA", "VECLIB_MAXIMUM"):
            variables[f"{library}_NUM_THREADS"] = str(threads)
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed in `stop`
        self.process = subprocess.Popen(
            [sys.executable, "-m", "filter.worker", method, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            env=os.environ | variables,
            cwd=Path(__file__).resolve().parents[1],  # where `filter` and `measure` can be imported
        )

    def ask(self, limit_s: float, **command: Any) -> dict[str, Any]:
        """Send a command and wait for the answer, at most `limit_s` seconds."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps(command).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise EOFError(self._end()) from None
        if not select.select([self.process.stdout], [], [], limit_s)[0]:
            raise TooLongError(f"takes longer than {limit_s:.0f} s")
        line = self.process.stdout.readline()
        if not line:
            raise EOFError(self._end())
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise FailedError(answer["error"])
        return answer

    def stop(self) -> None:
        """Stop the process, whatever it is doing."""
        self.process.kill()
        self.process.communicate()
        self.errors.close()

    def _end(self) -> str:
        """Return how the process ended."""
        code = self.process.wait()
        self.errors.seek(0)
        lines = self.errors.read().decode(errors="replace").strip().splitlines()
        return f"its process ended with code {code}" + (f": {lines[-1]}" if lines else "")
