"""Published methods of self-supervised learning on pairs, as settings of `kalmanssl.models.PairModel`.

    >>> from kalmanssl import recipes
    >>> print(recipes.byol())
    BYOL
      latent model           Sphere(concentration=2.0)
      entropy                StopGradientEntropy()
      prior                  empirical
      moving-average target  0.99, rising to 1
      predictor              4096, 256
      projector              4096, 256, batch norm

``recipes.simclr().build(backbone, n_features)`` builds the model, which `kalmanssl.training.train` trains. To change a
setting of a recipe: ``dataclasses.replace(recipes.simclr(), hidden=(512,))``.

`hippocampus` returns settings of `kalmanssl.KalmanSSL` for sequences.

Constants are those of the LDM paper and its code for CIFAR-10 (section 4.2, appendix B), converted to nats: precisions
there apply to means over coordinates, and neighbor distances are not multiplied by the dimension.
"""

from kalmanssl.recipes._pairs import RECIPES as RECIPES
from kalmanssl.recipes._pairs import byol as byol
from kalmanssl.recipes._pairs import categorical as categorical
from kalmanssl.recipes._pairs import cpc as cpc
from kalmanssl.recipes._pairs import euclidean_kde as euclidean_kde
from kalmanssl.recipes._pairs import euclidean_knn as euclidean_knn
from kalmanssl.recipes._pairs import euclidean_logdet as euclidean_logdet
from kalmanssl.recipes._pairs import jepa as jepa
from kalmanssl.recipes._pairs import make_recipe as make_recipe
from kalmanssl.recipes._pairs import simclr as simclr
from kalmanssl.recipes._pairs import simplex_kde as simplex_kde
from kalmanssl.recipes._pairs import simsiam as simsiam
from kalmanssl.recipes._pairs import sphere_kde as sphere_kde
from kalmanssl.recipes._pairs import sphere_knn as sphere_knn
from kalmanssl.recipes._pairs import sphere_logdet as sphere_logdet
from kalmanssl.recipes._pairs import vicreg as vicreg
from kalmanssl.recipes._pairs import vicreg_ldm as vicreg_ldm
from kalmanssl.recipes._recipe import Recipe as Recipe
from kalmanssl.recipes._sequences import hippocampus as hippocampus
