"""Latent distribution matching: the objective, sequence models, pair models, and their latent models."""

from kalmanssl.models._behavior_term import BehaviorFit as BehaviorFit
from kalmanssl.models._behavior_term import BehaviorReadout as BehaviorReadout
from kalmanssl.models._kalman_predictor import KalmanPrediction as KalmanPrediction
from kalmanssl.models._kalman_predictor import KalmanPredictor as KalmanPredictor
from kalmanssl.models._kalman_predictor import Posterior as Posterior
from kalmanssl.models._kalman_predictor import Prediction as Prediction
from kalmanssl.models._kalman_predictor import Predictor as Predictor
from kalmanssl.models._objective import LDM as LDM
from kalmanssl.models._objective import Terms as Terms
from kalmanssl.models._online_filter import OnlineKalmanFilter as OnlineKalmanFilter
from kalmanssl.models._pair import PairModel as PairModel
from kalmanssl.models._pair_checks import PriorKind as PriorKind
from kalmanssl.models._pair_spaces import Categories as Categories
from kalmanssl.models._pair_spaces import Euclidean as Euclidean
from kalmanssl.models._pair_spaces import IsotropicGaussian as IsotropicGaussian
from kalmanssl.models._pair_spaces import PairLatentModel as PairLatentModel
from kalmanssl.models._pair_spaces import Simplex as Simplex
from kalmanssl.models._pair_spaces import Sphere as Sphere
from kalmanssl.models._predictor_fit import PredictorFit as PredictorFit
from kalmanssl.models._predictor_fit import start_varying_noise as start_varying_noise
from kalmanssl.models._recurrent_predictor import RecurrentPredictor as RecurrentPredictor
from kalmanssl.models._sequence import SequenceModel as SequenceModel
from kalmanssl.models._sequence import latent_statistics as latent_statistics
from kalmanssl.models._trainable import Trainable as Trainable
from kalmanssl.models._two_views import TwoViewModel as TwoViewModel
