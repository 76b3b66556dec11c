"""Linear independent component analysis by maximum likelihood."""

from kalmanssl.ica._linear_ica import LinearICA as LinearICA
from kalmanssl.ica._linear_ica import log_likelihood as log_likelihood
from kalmanssl.ica._source_densities import DENSITIES as DENSITIES
from kalmanssl.ica._source_densities import GaussianSources as GaussianSources
from kalmanssl.ica._source_densities import GeneralizedGaussian as GeneralizedGaussian
from kalmanssl.ica._source_densities import HyperbolicSecant as HyperbolicSecant
from kalmanssl.ica._source_densities import SourceDensity as SourceDensity
from kalmanssl.ica._source_densities import make_density as make_density
