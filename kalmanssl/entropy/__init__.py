"""Estimators of the entropy of latents, in nats."""

from kalmanssl.entropy._base import EntropyEstimator as EntropyEstimator
from kalmanssl.entropy._categorical import CategoricalEntropy as CategoricalEntropy
from kalmanssl.entropy._gaussian import LogDetEntropy as LogDetEntropy
from kalmanssl.entropy._gaussian import PublishedLogDetEntropy as PublishedLogDetEntropy
from kalmanssl.entropy._gaussian import VarianceCovarianceEntropy as VarianceCovarianceEntropy
from kalmanssl.entropy._kde import DirichletKDEEntropy as DirichletKDEEntropy
from kalmanssl.entropy._kde import GaussianKDEEntropy as GaussianKDEEntropy
from kalmanssl.entropy._kde import VonMisesFisherKDEEntropy as VonMisesFisherKDEEntropy
from kalmanssl.entropy._knn import KNNEntropy as KNNEntropy
from kalmanssl.entropy._registry import ENTROPIES as ENTROPIES
from kalmanssl.entropy._registry import SPACES as SPACES
from kalmanssl.entropy._registry import make_entropy as make_entropy
from kalmanssl.entropy._stop_gradient import StopGradientEntropy as StopGradientEntropy
from kalmanssl.entropy._stop_gradient import conditional_entropy as conditional_entropy
