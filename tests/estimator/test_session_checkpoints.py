"""A fit of several sessions that is interrupted in one of its stages and resumed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from simulated_sessions import TINY, make_session

import kalmanssl.estimator._dynamics_fit as dynamics_stage
import kalmanssl.estimator._stages as second_stage
import kalmanssl.estimator.sessions._data as first_stage
from kalmanssl import KalmanSSL
from kalmanssl.errors import InputError


@pytest.fixture(scope="module")
def sessions():
    return [make_session("a", 40, 15, seed=0), make_session("b", 30, 15, seed=1)]


@pytest.fixture(scope="module")
def expected(sessions) -> KalmanSSL:
    return KalmanSSL(**TINY).fit(sessions)


def interrupted(monkeypatch, module, at_call: int) -> list[int]:
    """Let a call of `train` in a module end after one epoch as by Ctrl-C; return the numbers of epochs of all calls."""
    train, calls, epochs = module.train, [], []

    def stop(*args, on_epoch_end=None, **kwargs):
        calls.append(None)
        given = on_epoch_end

        def end_epoch(done: int) -> None:
            if given is not None:
                given(done)
            epochs.append(done)
            if len(calls) == at_call:
                raise KeyboardInterrupt

        return train(*args, **kwargs, on_epoch_end=end_epoch)

    monkeypatch.setattr(module, "train", stop)
    return epochs


def assert_resumed(fit: Callable[[], KalmanSSL], expected: KalmanSSL, sessions) -> None:
    model = fit()
    for before, after in zip(expected.transform(sessions), model.transform(sessions), strict=True):
        np.testing.assert_array_equal(after.mean, before.mean)
    assert model.history_ == expected.history_
    assert model.noise_history_ == expected.noise_history_


@pytest.mark.parametrize(
    ("module", "at_call"),
    [(first_stage, 1), (first_stage, 2), (second_stage, 1), (dynamics_stage, 1)],
    ids=["first", "second", "joint", "dynamics"],
)
def test_an_interrupted_fit_gives_the_same_weights_when_it_is_resumed(
    sessions, expected, tmp_path, monkeypatch, module, at_call
):
    settings = TINY | {"checkpoint_dir": tmp_path}
    with monkeypatch.context() as patch:
        interrupted(patch, module, at_call)
        with pytest.raises(KeyboardInterrupt):
            KalmanSSL(**settings).fit(sessions)
    epochs = interrupted(monkeypatch, first_stage, 0)
    assert_resumed(lambda: KalmanSSL(**settings).fit(sessions, resume=True), expected, sessions)
    # What was done is not repeated: the first stage of both sessions has two epochs each.
    assert len(epochs) == ({1: 3, 2: 1}[at_call] if module is first_stage else 0)


def test_a_finished_fit_can_be_resumed(sessions, expected, tmp_path):
    settings = TINY | {"checkpoint_dir": tmp_path}
    KalmanSSL(**settings).fit(sessions)
    assert_resumed(lambda: KalmanSSL(**settings).fit(sessions, resume=True), expected, sessions)


def test_checkpoints_of_an_earlier_fit_are_not_resumed(sessions, tmp_path, monkeypatch):
    """The earlier fit was finished, and the second one is interrupted in the first stage."""
    earlier, settings = sessions[::-1], TINY | {"checkpoint_dir": tmp_path}
    KalmanSSL(**settings).fit(earlier)
    with monkeypatch.context() as patch:
        interrupted(patch, first_stage, 1)
        with pytest.raises(KeyboardInterrupt):
            KalmanSSL(**settings).fit(sessions)
    expected = KalmanSSL(**TINY).fit(sessions)
    assert_resumed(lambda: KalmanSSL(**settings).fit(sessions, resume=True), expected, sessions)


def test_there_must_be_a_checkpoint_to_resume_from(sessions, tmp_path):
    with pytest.raises(InputError, match="nothing to resume") as caught:
        KalmanSSL(**TINY, checkpoint_dir=tmp_path).fit(sessions, resume=True)
    assert caught.value.parameter == "resume"
