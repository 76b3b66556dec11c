"""A linear system in six dimensions that switches between four rotations, behind a random network.

The theorem does not cover it: the distribution of the next latent given the past ones is a mixture of Gaussians.
"""

from dataclasses import replace

from identifiability.experiments import lorenz

EXPERIMENT = replace(
    lorenz.EXPERIMENT,
    name="switching",
    title="Recurrent predictor: switching linear system",
    data={"motion": "switching"},
)
