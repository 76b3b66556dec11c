"""All experiments by name. To add one, write a module with an `EXPERIMENT` and add it to the list here."""

from identifiability.experiments import (
    deviations,
    dimensions,
    figure8,
    lorenz,
    noise,
    sphere,
    spikes,
    square,
    switching,
    wobbly,
)

__all__ = ["EXPERIMENTS"]

EXPERIMENTS = {
    module.EXPERIMENT.name: module.EXPERIMENT
    for module in (square, figure8, noise, wobbly, deviations, dimensions, sphere, lorenz, switching, spikes)
}
