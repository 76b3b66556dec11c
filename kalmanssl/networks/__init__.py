"""Encoders from activity to latents, noise heads, and a multilayer perceptron."""

from kalmanssl.networks._encoders import MLPEncoder as MLPEncoder
from kalmanssl.networks._encoders import Normalize as Normalize
from kalmanssl.networks._encoders import UnitDropout as UnitDropout
from kalmanssl.networks._encoders import WindowEncoder as WindowEncoder
from kalmanssl.networks._encoders import check_encoder as check_encoder
from kalmanssl.networks._mlp import mlp as mlp
from kalmanssl.networks._noise_base import BoundedNoise as BoundedNoise
from kalmanssl.networks._noise_base import ConstantNoise as ConstantNoise
from kalmanssl.networks._noise_base import NoiseContext as NoiseContext
from kalmanssl.networks._noise_base import NoiseHead as NoiseHead
from kalmanssl.networks._noise_models import NOISE_HEADS as NOISE_HEADS
from kalmanssl.networks._noise_models import ActivityNoise as ActivityNoise
from kalmanssl.networks._noise_models import ErrorNoise as ErrorNoise
from kalmanssl.networks._noise_models import InputNoise as InputNoise
from kalmanssl.networks._noise_models import StateNoise as StateNoise
from kalmanssl.networks._noise_models import VarianceNetwork as VarianceNetwork
from kalmanssl.networks._noise_models import make_noise as make_noise
from kalmanssl.networks._online_encoder import OnlineEncoder as OnlineEncoder
from kalmanssl.networks._residual_encoder import ResidualEncoder as ResidualEncoder
from kalmanssl.networks._whitening import Whitening as Whitening
