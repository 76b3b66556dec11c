"""`KalmanSSL`: latent dynamics from a recording, with the conventions of scikit-learn."""

from kalmanssl.estimator._forecast import Forecast as Forecast
from kalmanssl.estimator._kalman_ssl import KalmanSSL as KalmanSSL
from kalmanssl.estimator._online import OnlineFilter as OnlineFilter
from kalmanssl.estimator._online import OnlineLatent as OnlineLatent
from kalmanssl.estimator.sessions import SessionAlignment as SessionAlignment
