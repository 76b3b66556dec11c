"""Videos of a moving dot whose true latents are known, to test whether a model identifies them.

The systems are those of arXiv 2605.03517 (section 4.2 and appendix A), with two differences. First, training and test
videos differ: each video has its own initial phase and its own noise, and the splits draw from independent
streams; `repeated=True` gives the published behavior instead. Second, the default field of view contains the whole
trajectory; `rendering="published"` clamps the dot at the border, as published. In the published generator the noise
type "random_gaussian" passes a mean in place of a rate for the wobbly motion; here it is a mean everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from types import MappingProxyType
from typing import Any

import numpy as np

from kalmanssl.datasets._higher_motions import Oscillators, Sphere
from kalmanssl.datasets._lorenz import Lorenz
from kalmanssl.datasets._motions import Circular, CircularJumps, Figure8, Motion, Square, Wobbly
from kalmanssl.datasets._neurons import Neurons
from kalmanssl.datasets._rendering import DotImage, Mixing, RandomNetwork
from kalmanssl.datasets._switching_linear import SwitchingLinear
from kalmanssl.datasets._video_sets import POISSON, SPLITS, DotVideos, VideoSource, network_seed
from kalmanssl.errors import InputError
from kalmanssl.utils.validation import check_choice, check_condition, check_integer, check_number

__all__ = ["MIXINGS", "MOTIONS", "NOISES", "PRESETS", "RENDERINGS", "SPLITS", "DotVideos", "dot_videos"]

MOTIONS: Mapping[str, Motion] = MappingProxyType(
    {
        "circular": Circular(),
        "circular_jumps": CircularJumps(),
        "square": Square(),
        "figure8": Figure8(),
        "wobbly": Wobbly(),
        "oscillators": Oscillators(),
        "sphere": Sphere(),
        "lorenz": Lorenz(),
        "switching": SwitchingLinear(),
    }
)
"""Motions by name, with their default settings."""

MIXINGS = ("plain", "swirl", "network", "neurons")
RENDERINGS = ("whole", "published")
NOISES = ("gaussian", "random_gaussian", "state_dependent")

PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "square": {"motion": "square"},
        "figure8": {"motion": "figure8"},
        "inferred_noise": {"motion": "circular", "noise": "random_gaussian"},
        "state_dependent_noise": {
            "motion": "circular",
            "noise": "state_dependent",
            "noise_variance": 0.1,
            "process_variance": 0.005,
        },
        "jumps": {"motion": "circular_jumps"},
        "wobbly": {"motion": "wobbly"},
        "wobbly_published": {"motion": "wobbly", "rendering": "published"},
        "dimensions": {"motion": "oscillators", "dims": 5},
        "sphere": {"motion": "sphere"},
    }
)
"""Arguments of `dot_videos` for each experiment of the paper: `dot_videos(**PRESETS["jumps"])`."""


def dot_videos(
    motion: str = "wobbly",
    n_videos: int = 1000,
    n_frames: int = 100,
    *,
    mixing: str | None = None,
    rendering: str = "whole",
    view: float | None = None,
    size: int = 10,
    noise: str = "gaussian",
    noise_variance: float | None = None,
    dims: int | None = None,
    dt: float | None = None,
    period: float | None = None,
    process_variance: float | None = None,
    process_noise: str | None = None,
    jump_rate: float | None = None,
    split: str = "train",
    repeated: bool = False,
    random_state: int = 0,
) -> DotVideos:
    """Simulate videos of a dot that moves by a known system.

    Positions follow one of the motions, each video from a random phase. A mixing function maps them to pixels,
    and Gaussian noise is added to the pixels. A larger set begins with the trajectories of a smaller one of the same
    seed.

    Parameters
    ----------
    motion : str
        A key of `MOTIONS`: "circular", "circular_jumps", "square", "figure8", "wobbly" (a nonlinear oscillator),
        "oscillators" (coupled ones in 2 to 10 dimensions), "sphere" (a von Mises-Fisher walk), "lorenz" or "switching"
        (a linear system that switches between rotations, in 3 to 10 dimensions).
    n_videos, n_frames : int
        Number of videos, and of frames in each.
    mixing : {"plain", "swirl", "network", "neurons"} or None
        Picture of the dot, swirled picture, random injective network, or spike counts of neurons in bins of 25 ms
        (see `Neurons`); the first two draw two dimensions only. None takes that of the motion's experiment.
    rendering : {"whole", "published"}
        Let the dot leave a picture that is wide enough for the whole trajectory, or clamp it at the border of a
        narrow one, which folds two fifths of the wobbly frames onto the border. With "network": rectifiers of slope
        0.2, or 0.01 as published, which hides some directions from single precision.
    view : float or None
        Half the width of the field of view, in units of the position; None takes 3 for "published", and for "whole"
        the larger of 3 and the extent of the motion in `n_frames` frames. Sets of different lengths need the same
        view to share one mixing function. Only for pictures of the dot.
    size : int
        Pixels on a side; a frame has size * size pixels or neurons.
    noise : {"gaussian", "random_gaussian", "state_dependent"}
        Variance of the pixel noise: m; max(0, E - 0.3 m) with E exponential of mean m, drawn in each frame (mean
        0.741 m, zero in a quarter of the frames); or m |x + 1| / 2, with x the first coordinate. Spike counts are
        Poisson variables and have no other noise.
    noise_variance : float or None
        m; None takes that of the motion's experiment. Not for "neurons".
    dims, dt, period, process_variance, process_noise, jump_rate : optional
        Settings of the motion (see `Circular`, `Square`, `Figure8`, `Wobbly`, `Oscillators`, `Sphere`, `Lorenz`,
        `SwitchingLinear`); None takes
        the motion's own.
    split : {"train", "test", "validation"}
        Split; each has its own independent trajectories and noise. The system and the mixing function are the
        same in all.
    repeated : bool
        Reproduce the published generator, for comparison: all splits have the same trajectories and noise levels,
        all videos start at phase 0 (the wobbly ones at random), and first frames have the published exceptions.
    random_state : int
        Seed; the same seed gives the same bytes on the same machine.

    Returns
    -------
    DotVideos
        Pixels, labels, the mixing function, the step map, and a stream of fresh batches.

    Raises
    ------
    InputError
        If a name is unknown, a number is out of its range, or a setting does not belong to the motion.

    Examples
    --------
    >>> from kalmanssl.datasets import dot_videos
    >>> train = dot_videos("square", n_videos=8)
    >>> train.videos.shape, train.position.shape
    ((8, 100, 100), (8, 100, 2))
    >>> batch = next(dot_videos("wobbly", n_videos=1).stream(batch_size=4))
    >>> batch.videos.shape
    (4, 100, 100)
    """
    settings = {
        "dims": dims,
        "dt": dt,
        "period": period,
        "process_variance": process_variance,
        "process_noise": process_noise,
        "jump_rate": jump_rate,
    }
    moving = _motion(motion, {name: value for name, value in settings.items() if value is not None})
    check_integer("n_videos", n_videos, 1)
    check_integer("n_frames", n_frames, 1)
    check_integer("size", size, 4)
    check_integer("random_state", random_state, 0)
    kind = moving.mixing if mixing is None else mixing
    check_choice("mixing", kind, MIXINGS)
    check_choice("rendering", rendering, RENDERINGS)
    check_choice("noise", noise, NOISES)
    check_choice("split", split, SPLITS)
    variance = moving.noise_variance if noise_variance is None else noise_variance
    check_number("noise_variance", variance)
    check_condition("noise_variance", variance, 0 <= variance < np.inf, "0 or more")
    if kind == "neurons":
        check_condition("noise", noise, noise == "gaussian", "left out for 'neurons': their counts are Poisson")
        if noise_variance is not None:
            raise InputError(
                "leave out noise_variance for 'neurons': their counts are Poisson", parameter="noise_variance"
            )
    source = VideoSource(
        motion=moving,
        mixing=_mixing(moving, kind, rendering, view, int(size), int(n_frames), int(random_state)),
        n_frames=int(n_frames),
        pixels=int(size) ** 2,
        noise=POISSON if kind == "neurons" else noise,
        noise_variance=float(variance),
        split=split,
        repeated=bool(repeated),
        random_state=int(random_state),
    )
    return source.draw(int(n_videos))


def _motion(name: str, settings: dict[str, Any]) -> Motion:
    check_choice("motion", name, tuple(MOTIONS))
    known = [f.name for f in fields(MOTIONS[name])]
    for setting, value in settings.items():
        if setting not in known:
            raise InputError(
                f"motion {name!r} has no {setting}; its settings are {', '.join(known)}", parameter=setting
            )
        if setting != "process_noise":
            check_number(setting, value)
    return replace(MOTIONS[name], **settings)


def _mixing(
    motion: Motion, kind: str, rendering: str, view: float | None, size: int, n_frames: int, random_state: int
) -> Mixing:
    published = rendering == "published"
    if kind in ("network", "neurons") and view is not None:
        raise InputError(f"mixing {kind!r} has no field of view; leave out view", parameter="view")
    if kind == "neurons":
        return Neurons.draw(network_seed(random_state), motion, size**2)
    if kind == "network":
        if size**2 < 2 * motion.dims:
            raise InputError(
                f"size must give at least {2 * motion.dims} pixels for {motion.dims} dimensions; got {size} x {size}",
                parameter="size",
            )
        rng = np.random.default_rng(network_seed(random_state))
        return RandomNetwork.draw(rng, motion.dims, size**2, 0.01 if published else 0.2)
    if motion.dims != 2:
        raise InputError(
            f"mixing {kind!r} draws a dot in two dimensions, not {motion.dims}; use 'network' or 'neurons'",
            parameter="mixing",
        )
    if view is not None:
        check_number("view", view)
        check_condition("view", view, 0 < view < np.inf, "positive, in units of the position")
    width = view if view is not None else 3.0 if published else max(3.0, motion.extent(n_frames))
    return DotImage(size, float(width), clamped=published, swirled=kind == "swirl")
