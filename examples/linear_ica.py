"""Separate two mixed images, and two mixed noise processes, by linear independent component analysis (ICA).

The encoder is a matrix and the latent model a density for every source (Mikulasch & Zenke 2026, Fig. 2). The images are
identified by their flat histograms, which the density assumes. The processes are Gaussian: their rotation is identified
by their variances, which are given. FastICA does not use variances, so that every rotation of the processes is as good
as another to it, and its result is arbitrary.
"""

import numpy as np
import torch
from matplotlib.figure import Figure
from sklearn.datasets import load_sample_images
from sklearn.decomposition import FastICA

from kalmanssl.datasets import ornstein_uhlenbeck, stationary_variance
from kalmanssl.ica import GaussianSources, GeneralizedGaussian, LinearICA
from kalmanssl.identifiability import mean_correlation

SIDE = 200


def central_square(image: np.ndarray) -> np.ndarray:
    """Return the middle of an image in averages over blocks of pixels, from 0 to 1."""
    block = min(image.shape[:2]) // SIDE
    top, left = ((size - block * SIDE) // 2 for size in image.shape[:2])
    middle = image[top : top + block * SIDE, left : left + block * SIDE] / 255.0
    return middle.reshape(SIDE, block, SIDE, block, 3).mean(axis=(1, 3))


def order_and_sign(found: np.ndarray, sources: np.ndarray) -> tuple[list[int], np.ndarray]:
    """Return the order and the signs of recovered sources, which no method can identify, by the true sources."""
    r = np.corrcoef(sources.T, found.T)[:2, 2:]
    order = [0, 1] if abs(r[0, 0] * r[1, 1]) > abs(r[0, 1] * r[1, 0]) else [1, 0]
    return order, np.sign(r[[0, 1], order])


def rescale_like(found: np.ndarray, sources: np.ndarray) -> np.ndarray:
    """Return recovered sources with the order, signs, means and variances of the true ones, for the picture."""
    order, sign = order_and_sign(found, sources)
    standard = (found - found.mean(axis=0)) / found.std(axis=0)
    return standard[:, order] * sign * sources.std(axis=0) + sources.mean(axis=0)


rotation = np.array([[1, -1], [1, 1]]) / np.sqrt(2)
processes = ornstein_uhlenbeck(pull=(2.0, 0.2), volatility=0.3, dt=0.1, random_state=0)
variances = stationary_variance((2.0, 0.2), 0.3)
cases = {
    "images": (
        np.stack([central_square(image).ravel() for image in load_sample_images().images], axis=1),
        np.array([[1.0, 0.7], [0.7, 1.0]]),
        LinearICA(GeneralizedGaussian(4.0)),
    ),
    "processes": (processes, rotation, LinearICA(GaussianSources(variances), unmixing="rotation")),
}

figure = Figure(figsize=(13, 10), layout="constrained")
axes = figure.subplots(4, 5)
for column, title in enumerate(("sources", "mixtures", "LinearICA", "FastICA", "histogram and density")):
    axes[0, column].set_title(title)

print(f"{'mean correlation with the sources of':<40}{'mixtures':>10}{'recovered':>11}")
for case, (name, (sources, mixing, model)) in enumerate(cases.items()):
    mixtures = sources @ mixing.T
    latent = model.fit_transform(mixtures)
    fast_ica = FastICA(whiten="unit-variance", max_iter=1000, tol=1e-8, random_state=0)
    mixed = mean_correlation(sources, mixtures)
    shown = [sources, mixtures]
    for method, found in (("LinearICA", latent), ("FastICA", fast_ica.fit_transform(mixtures))):
        print(f"{name + ', ' + method:<40}{mixed:>10.3f}{mean_correlation(sources, found):>11.4f}")
        shown.append(rescale_like(found, sources))
    order, sign = order_and_sign(latent, sources)
    grid = np.stack([np.linspace(*np.quantile(column, [0.0005, 0.9995]), 300) for column in latent.T], axis=1)
    density = model.density.log_prob(torch.from_numpy(grid)).exp()
    for row in range(2):
        panels = axes[2 * case + row]
        for ax, values in zip(panels, shown, strict=False):
            if name == "images":
                picture = values[:, row] / (1.7 if values is mixtures else 1.0)
                ax.imshow(picture.reshape(SIDE, SIDE, 3).clip(0, 1))
                ax.set(xticks=[], yticks=[])
            else:
                ax.plot(0.1 * np.arange(600), values[:600, row], linewidth=0.7)
                ax.set(ylim=(-2, 2), xlabel="time (s)" if row else "")
        source = order[row]
        panels[4].hist(sign[row] * latent[:, source], bins=80, density=True, alpha=0.6)
        panels[4].plot(sign[row] * grid[:, source], density[:, source], color="black")
        panels[4].set(xlabel="recovered source", ylabel="density")
figure.savefig("linear_ica.png", dpi=110)
print("saved linear_ica.png")
