"""The filter suite: methods against the joint Gaussian, the count of operations, and the command."""

import json
import subprocess
import sys
from pathlib import Path

import filter.accuracy
import filter.processes
import numpy as np
import pytest
from filter import methods, run, timing
from filter.__main__ import app
from filter.accuracy import joint_log_likelihood
from filter.figure import SWEEPS, draw
from filter.limit import LimitFilter, compiler
from filter.methods import METHODS, Method
from filter.problems import EXTREMES, Cell, Size, make_problem, operations, with_extremes
from filter.processes import FailedError, Processes, TooLongError
from filter.torch_methods import TorchWork, careful
from suite import RESULTS
from typer.testing import CliRunner

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def problem(size=(3, 6, 3, 2), noise="varying", seed=3):
    return make_problem(Size(*size), noise, seed).rounded()


# --- problems --------------------------------------------------------------------------------------------------------


def test_data_have_the_moments_of_the_model():
    p = make_problem(Size(4000, 3, 2, 1), "constant")
    cov = np.eye(2)
    for t in range(3):
        if t > 0:
            cov = p.A @ cov @ p.A.T + np.diag(p.Q)
        variance = (p.C @ cov @ p.C.T)[0, 0] + p.R[0]
        assert np.var(p.y[:, t, 0]) == pytest.approx(variance, rel=5 * np.sqrt(2 / 4000))


def test_extreme_cases_change_the_named_noise_only():
    p = problem((2, 5, 4, 3))
    noises = {case: with_extremes(p, case) for case in EXTREMES}
    assert np.allclose(noises["R = 1e-6"].R, 1e-6)
    mixed = np.sort(noises["R mixed"].R, axis=None)
    assert np.allclose(mixed, np.logspace(-6, 6, 30), rtol=1e-6)
    both = noises["R = 1e-6, Q = 1e-8"]
    assert np.allclose(both.R, 1e-6)
    assert np.allclose(both.Q, 1e-8)
    assert np.allclose(noises["Q = 1e-8"].Q, 1e-8)
    assert all(np.array_equal(changed.A, p.A) and changed.size == p.size for changed in noises.values())
    with pytest.raises(ValueError, match="no case"):
        with_extremes(p, "R = 2")


def test_operations_of_one_state_and_channel_equal_a_count_by_hand():
    # Prediction: a m (2), a P (2), (a P) a (2), + q; channel: c P (2), c P c + r (3), y - c m (2), 1 / F, gain,
    # mean (2), covariance (2), likelihood (4).
    assert operations(1, 1) == 7 + 17
    assert operations(16, 8) < 28907  # of a filter that does not make use of symmetric covariances


@pytest.mark.parametrize("text", ["8,100,10", "8,100,10,0", "a,b,c,d", "-1,2,3,4", ""])
def test_invalid_sizes_are_refused(text):
    with pytest.raises(ValueError, match="expected batch,steps,states,channels"):
        Size.read(text)


# --- methods ---------------------------------------------------------------------------------------------------------


def dense_log_likelihood(p):
    """Return the log-likelihood with every observation written as a linear map of independent noise."""
    from scipy.stats import multivariate_normal

    batch, steps, states, channels = p.size
    out = []
    for b in range(batch):
        R = np.broadcast_to(p.R, p.y.shape)[b]
        reach = np.zeros((steps * channels, steps * states))
        for t in range(steps):
            for k in range(t + 1):
                scale = np.ones(states) if k == 0 else np.sqrt(p.Q)
                block = p.C @ np.linalg.matrix_power(p.A, t - k) * scale
                reach[t * channels : (t + 1) * channels, k * states : (k + 1) * states] = block
        cov = reach @ reach.T + np.diag(R.ravel())
        out.append(multivariate_normal.logpdf(p.y[b].ravel(), cov=cov))
    return np.array(out)


@pytest.mark.parametrize("noise", ["varying", "constant"])
def test_joint_density_equals_that_of_independent_noise(noise):
    p = problem(noise=noise)
    assert joint_log_likelihood(p) == pytest.approx(dense_log_likelihood(p), rel=1e-10)


@pytest.mark.parametrize("noise", ["varying", "constant"])
@pytest.mark.parametrize(
    "name",
    [
        "kalmanssl",
        "kalmanssl, adjoint",
        "kalmanssl, reference",
        "published loop",
        "careful loop",
        "torch-kf",
        "filterpy",
    ],
)
def test_every_filter_agrees_with_the_joint_gaussian(name, noise):
    if METHODS[name].missing:
        pytest.skip(METHODS[name].missing)
    p = problem(noise=noise)
    work = METHODS[name].prepare(p, "forward")
    answer = work.answer(work())
    assert answer.log_likelihood == pytest.approx(dense_log_likelihood(p), rel=1e-5)
    assert answer.mean.shape == (3, 6, 3)
    last = p.C @ answer.cov[0, -1] @ p.C.T
    assert np.all(np.diag(last) < np.broadcast_to(p.R, p.y.shape)[0, -1])  # the observation reduces the variance


@pytest.mark.parametrize("name", ["kalmanssl", "published loop", "careful loop", "torch-kf"])
def test_gradients_agree_with_finite_differences(name):
    from dataclasses import replace

    if METHODS[name].missing:
        pytest.skip(METHODS[name].missing)
    p = problem()
    work = METHODS[name].prepare(p, "gradients")
    gradients = work.answer(work()).gradients
    for parameter, index in (("A", (0, 1)), ("Q", (2,)), ("y", (1, 2, 0)), ("R", (2, 3, 1))):
        ends = []
        for step in (-1e-5, 1e-5):
            moved = getattr(p, parameter).copy()
            moved[index] += step
            ends.append(dense_log_likelihood(replace(p, **{parameter: moved})).sum())
        assert gradients[parameter][index] == pytest.approx((ends[1] - ends[0]) / 2e-5, rel=1e-3, abs=1e-4)


def test_dynamax_agrees_with_the_joint_gaussian():
    if METHODS["dynamax"].missing:
        pytest.skip(METHODS["dynamax"].missing)
    p = problem()
    work = METHODS["dynamax"].prepare(p, "forward")
    assert work.compile_s > 0
    assert work.answer(work()).log_likelihood == pytest.approx(dense_log_likelihood(p), rel=1e-5)


@pytest.mark.parametrize("size", [(1, 9, 3, 2), (3, 9, 5, 2), (9, 9, 2, 1)])
def test_c_program_agrees_with_the_careful_loop(size):
    if compiler() is None:
        pytest.skip("no C compiler")
    p = problem(size)
    limit, loop = LimitFilter(p), METHODS["careful loop"].prepare(p, "forward")
    limit()
    expected = loop.answer(loop())
    means, covs, terms = limit.results()
    assert means == pytest.approx(expected.mean, abs=1e-5)
    assert covs == pytest.approx(expected.cov, abs=1e-5)
    assert terms.sum(-1) == pytest.approx(dense_log_likelihood(p), rel=1e-5)


def test_accuracy_rows_show_errors_and_failures(monkeypatch):
    monkeypatch.setattr(filter.accuracy, "QUICK_SIZE", Size(2, 5, 2, 1))
    right = filter.accuracy.accuracy_of(METHODS["kalmanssl, float64"], quick=True)
    assert all(row["log_likelihood_error"] < 1e-9 and row["gradient_error"] < 1e-6 for row in right)
    assert all(row["positive_definite"] for row in right)

    def wrong(*tensors, with_moments):
        terms, *moments = careful(*tensors, with_moments=with_moments)
        return (1.1 * terms, *(-m for m in moments))

    rows = filter.accuracy.accuracy_of(Method(lambda p, task: TorchWork(wrong, p, task)), quick=True)
    for row in rows:
        assert row["log_likelihood_error"] == pytest.approx(0.1, rel=1e-3)
        assert row["gradient_error"] == pytest.approx(0.1, rel=1e-2)
        assert not row["positive_definite"]

    def broken(p, task):
        raise ValueError("cannot filter this")

    rows = filter.accuracy.accuracy_of(Method(broken), quick=True)
    assert all(row["failed"] == "ValueError: cannot filter this" for row in rows)


# --- the command -----------------------------------------------------------------------------------------------------

FEW = ["--preset", "quick", "--sizes", "2,8,2,1", "--repeats", "2", "--quiet"]
FEW += ["--methods", "kalmanssl", "--methods", "careful loop", "--methods", "C limit"]


def command(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Results of the command, started by its path from another folder."""
    out = tmp_path_factory.mktemp("filter")
    start = [sys.executable, str(BENCHMARKS / "filter"), "--out", str(out / "run"), *FEW]
    done = subprocess.run([*start, "--parts", "sizes", "--parts", "accuracy"], cwd=out, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "times ours" in done.stdout
    return out / "run"


def test_rows_have_times_memory_and_ratios(folder):
    result = json.loads((folder / "results.json").read_text())
    rows = {(row["method"], row["noise"], row["task"]): row for row in result["results"] if "case" not in row}
    assert len(rows) == 12
    for (method, noise, task), row in rows.items():
        if (method, noise) == ("C limit", "constant"):
            assert "noise that varies" in row["skipped"]
            continue
        if "skipped" in row or "failed" in row:
            assert method == "C limit", row
            continue
        assert 0 < row["cpu_min_s"] <= row["cpu_s"]
        assert 0 < row["wall_min_s"] <= row["wall_s"]
        assert row["repeats"] == 2
        assert row["peak_memory_mb"] > 10
        assert row["ours_cpu_s"] == rows["kalmanssl", noise, task]["cpu_s"]
        assert row["times_ours"] == pytest.approx(row["cpu_s"] / row["ours_cpu_s"])
    assert rows["careful loop", "varying", "gradients"]["cpu_s"] > rows["careful loop", "varying", "forward"]["cpu_s"]
    assert result["machine"]["flops_per_second"]["torch.mm"] > 1e8
    assert {row["method"] for row in result["results"] if "case" in row} == {"kalmanssl", "careful loop", "C limit"}
    assert not (folder / "times.png").exists()  # there are no times of the sweep


def test_figure_is_drawn_if_there_are_times_of_the_sweep(tmp_path):
    rows = [
        {"method": "kalmanssl", "size": list(size), "noise": "varying", "task": "gradients", "cpu_s": 0.001 * size.work}
        for sizes in SWEEPS.values()
        for size in sizes
    ]
    assert not draw([row | {"task": "forward"} for row in rows], tmp_path / "times.png")
    assert draw(rows, tmp_path / "times.png")
    assert (tmp_path / "times.png").stat().st_size > 10_000


def test_finished_rows_stay_and_new_ones_are_added(folder, monkeypatch):
    def stored():
        return json.loads((folder / "results.json").read_text())["results"]

    before = stored()
    monkeypatch.setattr(run, "core_rates", lambda processes: {"core": None, "torch.mm": 1e11})
    monkeypatch.setattr(run, "time_cell", lambda *arguments: pytest.fail("measured again"))
    again = [*FEW, "--parts", "sizes", "--out", folder]
    assert command(*again).exit_code == 0
    assert stored() == before

    timed = []

    def fake(processes, methods, cell, repeats, logger):
        timed.append((cell.task, list(methods)))
        return [timing.new_row(name, cell) | {"cpu_s": 1.0, "gflops": 1.0} for name in methods]

    monkeypatch.setattr(run, "time_cell", fake)
    assert command(*again, "--methods", "published loop").exit_code == 0
    assert timed == 2 * [("forward", ["kalmanssl", "published loop"]), ("gradients", ["kalmanssl", "published loop"])]
    assert stored()[: len(before)] == before
    assert {row["method"] for row in stored()[len(before) :]} == {"published loop"}

    assert command(*again, "--overwrite").exit_code == 0
    ours = [row for row in stored() if row["method"] == "kalmanssl" and "case" not in row]
    assert [row["cpu_s"] for row in ours] == [1.0] * 4
    assert len(stored()) == len(before) + 4


def test_a_process_that_fails_hangs_or_dies_affects_its_own_row_only(monkeypatch):
    class Process:
        def __init__(self, method):
            self.method, self.stopped = method, False

        def ask(self, limit_s, **order):
            if order["do"] == "prepare":
                assert limit_s > 1.0  # includes the start of the process
                time = {"cpu": 2.0, "wall": 2.0}
                return {"first": time, "second": time, "calls": 1, "compile_s": 0.0}
            if order["do"] == "finish":
                return {"peak_memory_mb": 1.0, "added_memory_mb": 0.0}
            if self.method == "torch-kf":
                raise TooLongError("takes longer")
            if self.method == "dynamax":
                raise EOFError("its process ended with code -9")
            if self.method == "filterpy":
                raise FailedError("ValueError: no")
            return {"cpu": 3.0, "wall": 3.0}

        def stop(self):
            self.stopped = True

    monkeypatch.setattr(filter.processes, "_Process", Process)
    cell = Cell(Size(2, 2, 2, 1), "varying", "forward")
    with Processes(1.0) as processes:
        names = ["kalmanssl", "torch-kf", "dynamax", "filterpy", "careful loop"]
        rows = {row["method"]: row for row in timing.time_cell(processes, names, cell, 50, lambda text: None)}
        assert set(processes._running) == {"kalmanssl", "filterpy", "careful loop"}
    assert rows["torch-kf"]["skipped"] == "takes longer"
    assert rows["dynamax"]["failed"] == "its process ended with code -9"
    assert rows["filterpy"]["failed"] == "ValueError: no"
    assert rows["careful loop"]["times_ours"] == 1.0
    assert rows["careful loop"]["repeats"] == 6  # as many as the time budget allows


def test_missing_packages_are_named_with_the_command_to_install_them(monkeypatch):
    monkeypatch.setattr(methods, "find_spec", lambda module: None)
    assert methods.METHODS["dynamax"].missing == "not installed: pip install jax dynamax"
    assert methods.METHODS["careful loop"].missing is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--sizes", "1,2,3"], "expected batch,steps,states,channels"),
        (["--methods", "nobody's"], "there are kalmanssl"),
    ],
)
def test_invalid_arguments_are_refused(tmp_path, arguments, words):
    result = command("--preset", "quick", "--out", tmp_path / "new", *arguments)
    assert result.exit_code == 2
    assert words in result.output
    assert not (tmp_path / "new").exists()


def test_folders_with_other_files_or_settings_are_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    result = command("--preset", "quick", "--out", tmp_path)
    assert result.exit_code == 2
    assert "other files" in result.output
    (tmp_path / "results.json").write_text('{"settings": {}, "results": []}')
    assert "other settings" in command("--preset", "quick", "--out", tmp_path).output


def test_stored_results_have_unique_keys_and_known_methods():
    stored = json.loads((RESULTS / "filter" / "results.json").read_text())
    assert stored["settings"]["preset"] == "full"
    keys = [str([row.get(name) for name in ("method", "size", "noise", "task", "case")]) for row in stored["results"]]
    assert len(set(keys)) == len(keys)
    assert {row["method"] for row in stored["results"]} == set(METHODS)
