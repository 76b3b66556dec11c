"""kalmanssl bench."""

from __future__ import annotations

import pytest
from cli_commands import fails, invoke

import kalmanssl.cli._main


def test_bench_lists_the_suites_and_rejects_unknown_ones(tmp_path, monkeypatch):
    listed = invoke("bench").stdout.split()
    assert {"decoding", "filter"} <= set(listed)
    assert "peers" not in listed  # a folder without a suite
    assert "decoding" in fails("bench", "nothing")
    monkeypatch.setattr(kalmanssl.cli._main, "__file__", str(tmp_path / "site-packages/kalmanssl/cli/_main.py"))
    assert "source repository" in fails("bench", "decoding")


@pytest.mark.parametrize("file", ["suite.py", "suite/__main__.py"])
def test_bench_passes_on_arguments_and_exit_code(tmp_path, monkeypatch, file):
    (tmp_path / "benchmarks" / file).parent.mkdir(parents=True)
    (tmp_path / "benchmarks" / file).write_text(
        "import sys\nif __name__ == '__main__':\n    sys.exit(7 if sys.argv[1:] == ['--quick', 'x'] else 1)\n"
    )
    monkeypatch.setattr(kalmanssl.cli._main, "__file__", str(tmp_path / "kalmanssl/cli/_main.py"))
    assert invoke("bench", "suite", "--quick", "x").exit_code == 7


def test_bench_shows_the_help_of_the_suite_and_returns_the_exit_code_of_a_signal(tmp_path, monkeypatch):
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "suite.py").write_text(
        "import os, sys\nif __name__ == '__main__':\n"
        "    sys.exit(9) if '--help' in sys.argv else os.kill(os.getpid(), 15)\n"
    )
    monkeypatch.setattr(kalmanssl.cli._main, "__file__", str(tmp_path / "kalmanssl/cli/_main.py"))
    assert invoke("bench", "suite", "--help").exit_code == 9
    assert invoke("bench", "suite").exit_code == 128 + 15
