"""Conditional distributions of latents: Gaussian, von Mises-Fisher, Dirichlet, mixtures."""

from kalmanssl.distributions._base import Conditional as Conditional
from kalmanssl.distributions._base import FamilyConditional as FamilyConditional
from kalmanssl.distributions._dirichlet import Dirichlet as Dirichlet
from kalmanssl.distributions._dirichlet import OnSimplex as OnSimplex
from kalmanssl.distributions._dirichlet import check_probabilities as check_probabilities
from kalmanssl.distributions._dirichlet import log_of_probabilities as log_of_probabilities
from kalmanssl.distributions._gaussian import GaussianConditional as GaussianConditional
from kalmanssl.distributions._mixture import Mixture as Mixture
from kalmanssl.distributions._mixture import PrecisionGaussian as PrecisionGaussian
from kalmanssl.distributions._von_mises_fisher import OnSphere as OnSphere
from kalmanssl.distributions._von_mises_fisher import VonMisesFisher as VonMisesFisher
from kalmanssl.distributions._von_mises_fisher import check_unit_length as check_unit_length
from kalmanssl.distributions._von_mises_fisher import log_area as log_area
from kalmanssl.distributions._von_mises_fisher import log_normalizer as log_normalizer
