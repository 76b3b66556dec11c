"""All experiments by name. To add one, write a file with an `EXPERIMENT` and give it a line here."""

from identifiability import deviations, dimensions, figure8, noise, sphere, square, wobbly

__all__ = ["EXPERIMENTS"]

EXPERIMENTS = {
    module.EXPERIMENT.name: module.EXPERIMENT
    for module in (square, figure8, noise, wobbly, deviations, dimensions, sphere)
}
