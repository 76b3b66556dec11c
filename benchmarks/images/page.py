"""The page of the results: tables, accuracy against dimension, spectra, gradient cosines, t-SNE, categories."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from pages import Section, write_page
from results_store import Results

from images.baselines import RANDOM
from images.combinations import COMBINATIONS
from images.tables import (
    COLUMNS,
    INTRODUCTION,
    category_lines,
    difference_lines,
    scores,
    table,
    timing_lines,
    verdict,
)
from kalmanssl.plotting import plot_confusion, plot_tsne

__all__ = ["write_images_page"]

COLORS = {"euclidean": "#1b6ca8", "sphere": "#c0392b", "simplex": "#2e8b57"}
MARKERS = {"KDE": "o", "kNN": "s", "log-determinant": "^", "VICReg": "D"}
TIMING = (
    "Batch size 256, dimension 256, images of 32 pixels, one thread. Encoders: both views (ResNet-18 is measured on 8 "
    "pairs and scaled). Plain: a direct implementation in a few lines. Lightly and solo-learn: their own losses, which "
    "alternate with ours in one process; times ours is the median ratio. BYOL and SimSiam: without a predictor."
)


def write_images_page(results: Results, path: Path) -> None:
    """Write all tables and figures as one page."""
    adapted = results.settings.get("plan", {}).get("adapted", {})
    changed = "; ".join(
        f"{name}: {', '.join(f'{k} {v:g}' for k, v in arguments.items())}" for name, arguments in adapted.items()
    )
    preset = f"Preset {results.settings['preset']}. Constants that differ from the published ones: {changed or 'none'}."
    sections = [
        Section(text=(INTRODUCTION, preset), table=[COLUMNS, *table(results)]),
        Section("With and without mutual information", (verdict(results),), difference_lines(results)),
        _dimensions(results),
        _features(results),
        _categories(results),
        Section("Time of a step", (TIMING,), timing_lines(results)),
    ]
    write_page(path, "Self-supervised learning on images", [section for section in sections if section is not None])


def _style(name: str) -> dict[str, Any]:
    """Return color and marker of a combination; the marker is filled with mutual information."""
    one = COMBINATIONS[name]
    marker = next((marker for part, marker in MARKERS.items() if part in name), "*")
    color = COLORS[one.space]
    return {"color": color, "marker": marker, "markerfacecolor": color if one.make().mutual_information else "none"}


def _dimensions(results: Results) -> Section | None:
    """Return accuracy against dimension (Fig. 3), spectra of the latents, cosines of gradients (Fig. A2B)."""
    first = [row for name in COMBINATIONS for row in results.good("combinations", name)[:1]]
    if not first:
        return None
    figure = Figure(figsize=(15, 5), dpi=110, layout="constrained")
    accuracy, spectra, cosines = figure.subplots(1, 3)
    for row in first:
        name = row["combination"]
        style = _style(name)
        rows = results.good("combinations", name)
        dimension = np.mean([one["above_share"] for one in rows])
        accuracy.plot(dimension, np.mean(list(scores(results, name).values())), ls="", label=name, **style)
        line = {"color": style["color"], "lw": 1.2, "ls": "-" if style["markerfacecolor"] != "none" else "--"}
        number, value = np.transpose(row["spectrum"])
        spectra.plot(number, np.maximum(value, 1e-12), **line)
        spectra.plot(number[0], value[0], **style)
        if row["gradient_cosine"]:
            cosines.plot(*np.transpose(row["gradient_cosine"]), **line | style, markersize=4)
    accuracy.set(
        xscale="log",
        xlabel="dimensions with more than 1 % of the largest variance",
        ylabel="accuracy of the linear probe",
    )
    spectra.set(xscale="log", yscale="log", xlabel="dimension", ylabel="variance of the latents")
    cosines.set(xlabel="epoch", ylabel="cosine of the two entropies' gradients", ylim=(-1.05, 1.05))
    cosines.axhline(0, color="gray", lw=0.8)
    for axes in (accuracy, spectra, cosines):
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(*accuracy.get_legend_handles_labels(), loc="outside right upper", frameon=False, fontsize=8)
    text = (
        "Filled markers and solid lines: with mutual information; colors: spaces. The cosine is between the gradients, "
        "with respect to backbone and projector, of the entropy of the combination and that of its partner with or "
        "without mutual information."
    )
    return Section("Dimension of the latents, and agreement of the entropies", (text,), figures=(figure,))


def _features(results: Results) -> Section | None:
    """Return t-SNE maps of the features of the combination with the best validation score and of random weights."""
    folder = results.path.with_name("features")
    saved = [
        r for r in results.good("combinations") if r["seed"] == 0 and (folder / f"{r['combination']}.npz").is_file()
    ]
    if not saved or not (folder / f"{RANDOM}.npz").is_file():
        return None
    best = max(saved, key=lambda row: row["validation"])["combination"]
    figure = Figure(figsize=(13, 6), dpi=110, layout="constrained")
    for axes, name in zip(figure.subplots(1, 2), (best, RANDOM), strict=True):
        with np.load(folder / f"{name}.npz") as file:
            plot_tsne(file["features"], file["labels"], ax=axes)
        axes.set_title(name)
    return Section("Features of test images, t-SNE", figures=(figure,))


def _categories(results: Results) -> Section | None:
    """Return the confusion matrices of the categories, and their most certain and most uncertain images."""
    rows = [row for row in results.good("categories") if row["seed"] == 0]
    if not rows:
        return None
    figure = Figure(figsize=(5.2 * len(rows), 6.4), dpi=110, layout="constrained")
    axes = figure.subplots(2, len(rows), squeeze=False, height_ratios=(3, 1))
    for (matrix, examples), row in zip(axes.T, rows, strict=True):
        plot_confusion(row["confusion"], row["classes"], ax=matrix)
        matrix.set_title(f"{row['combination']}: {row['accuracy']:.3f}")
        images = np.pad(np.array(row["examples"]["images"]), ((0, 0), (1, 1), (1, 1)))
        half = len(images) // 2
        examples.imshow(np.block([[*images[:half]], [*images[half:]]]), cmap="gray_r")
        lowest, highest = (row["examples"]["bits"][i] for i in (0, half))
        examples.set(xticks=[], yticks=[])
        examples.set_xlabel(f"most certain (from {lowest:.2g} bits up), most uncertain (from {highest:.2g} bits down)")
    text = (
        "Both images of a pair have the same class; afterward categories are matched to classes, largest counts first. "
        "A misspecified match probability of 0.8 is shown next to 0.992."
    )
    return Section("Categories from pairs of one class", (text,), category_lines(results), (figure,))
