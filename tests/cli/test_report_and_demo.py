"""kalmanssl report and kalmanssl demo."""

from __future__ import annotations

from cli_commands import UNTIL, fails, invoke

import kalmanssl.runs._demo


def test_report_is_written_to_the_run_folder_or_to_out(copy, recording, tmp_path):
    assert invoke("report", copy).exit_code == 0
    assert "--overwrite" in fails("report", copy)
    page = tmp_path / "page.html"
    assert invoke("report", copy, recording, "--after", UNTIL, "--smooth", "--out", page).exit_code == 0
    assert "smoothed" in page.read_text()
    assert "smoothed" not in (copy / "report.html").read_text()
    assert "require the recording" in fails("report", copy, "--smooth", "--out", tmp_path / "no.html")


def test_demo_writes_only_to_its_folder_and_replaces_only_its_own_output(tmp_path, monkeypatch):
    small = kalmanssl.runs._demo.DemoSize(
        n_units=16, duration=240.0, latent_dim=4, state_dim=8, epochs=1, decoder="linear"
    )
    monkeypatch.setattr(kalmanssl.runs._demo, "SIZE", small)
    out = tmp_path / "demo"
    result = invoke("demo", "--out", out)
    assert result.exit_code == 0, result.output
    assert {p.name for p in out.iterdir()} == {"recording.nwb", "run", "decoded.csv", "report.html"}
    assert str(out / "report.html") in result.stdout
    assert "--overwrite" in fails("demo", "--out", out)
    decoded = (out / "decoded.csv").read_bytes()
    assert invoke("demo", "--out", out, "--overwrite").exit_code == 0
    assert (out / "decoded.csv").read_bytes() == decoded
    (out / "mine.txt").write_text("mine")
    assert "mine.txt" in fails("demo", "--out", out, "--overwrite")
    assert (out / "mine.txt").exists()
    (tmp_path / "link").symlink_to(out)
    assert "link" in fails("demo", "--out", tmp_path / "link", "--overwrite")
    assert (out / "run").is_dir()
