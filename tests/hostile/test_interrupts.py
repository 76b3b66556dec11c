"""A command that is interrupted again and again while it ends: one line of error, exit code 130, clean-up complete."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

# Runs the command line with another `run_demo`, so that nothing slow is imported. After the first interrupt, each
# call and return of a Python function sends another one.
SCRIPT = """
import os, signal, sys, types
from pathlib import Path

signal.signal(signal.SIGINT, signal.default_int_handler)
folder, moment = Path(sys.argv[1]), sys.argv[2]
import kalmanssl.cli, kalmanssl.cli._errors as errors


def interrupt(*_):
    os.kill(os.getpid(), signal.SIGINT)


def begin():
    sys.setprofile(interrupt)
    interrupt()


def run_demo(*_, **__):
    try:
        if moment == "command":
            begin()
        return None
    finally:
        for number in range(100):
            (folder / f"{number}").write_text("cleaned")


fake = types.ModuleType("kalmanssl.runs")
fake.run_demo = run_demo
sys.modules["kalmanssl.runs"] = fake
if moment == "arguments":
    parse = errors.TyperGroup.parse_args
    errors.TyperGroup.parse_args = lambda *args: (begin(), parse(*args))[1]
if moment == "start":
    kalmanssl.cli._main.app = begin
sys.argv = ["kalmanssl", "demo"]
kalmanssl.cli.main()
"""


@pytest.mark.parametrize("moment", ["command", "arguments", "start"])
def test_many_interrupts_end_a_command_with_one_line(tmp_path: Path, moment: str) -> None:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", SCRIPT, str(tmp_path), moment]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == "error: interrupted\n"
    assert done.stdout == ""
    assert done.returncode == 130
    assert len(list(tmp_path.iterdir())) == (100 if moment == "command" else 0)
