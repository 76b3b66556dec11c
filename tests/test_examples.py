"""The short example runs as it stands; the longer one is made of what the other tests cover."""

import runpy
from pathlib import Path

EXAMPLES = Path(__file__).parent.parent / "examples"


def test_filter_alone(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(EXAMPLES / "filter_alone.py"), run_name="__main__")
    assert (tmp_path / "filter_alone.png").stat().st_size > 10_000
    out = capsys.readouterr().out
    assert "log-likelihood " in out
    assert "Nothing speaks against the model" in out
    assert "Look at R first, which seems too large" in out


def test_examples_and_readme_use_names_that_exist():
    import re

    import kalmanssl as ks

    texts = [path.read_text() for path in EXAMPLES.glob("*.py")] + [(EXAMPLES.parent / "README.md").read_text()]
    names = {name for text in texts for name in re.findall(r"\bks\.(\w+)", text)}
    assert {"KalmanSSL", "PositionDecoder", "Recording", "cross_fit"} <= names
    for name in names:
        assert hasattr(ks, name), name
