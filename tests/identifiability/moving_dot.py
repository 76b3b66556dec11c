"""Images of a dot that moves on a damped rotating random walk."""

import numpy as np


def walk(seed, frames=6000):
    """A damped rotating random walk in two dimensions, in sequences of 200 frames, with images of a dot there."""
    rng = np.random.default_rng(seed)
    batch = frames // 200
    p = np.zeros((batch, 200, 2))
    p[:, 0] = rng.normal(size=(batch, 2))
    turn = 0.97 * np.array([[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]])
    for t in range(1, 200):
        p[:, t] = p[:, t - 1] @ turn.T + 0.25 * rng.normal(size=(batch, 2))
    x, y = np.meshgrid(np.linspace(-3, 3, 10), np.linspace(-3, 3, 10))
    squares = (p[..., :1] - x.ravel()) ** 2 + (p[..., 1:] - y.ravel()) ** 2
    return p, np.exp(-squares / (2 * 0.6**2)) + 0.1 * rng.normal(size=(*p.shape[:2], 100))
