"""Selection of the settings of `KalmanSSL` by cross-validation over blocks of time."""

from kalmanssl.selection._results import Selection as Selection
from kalmanssl.selection._select import select as select
from kalmanssl.selection._splitter import BlockedTimeSeriesSplit as BlockedTimeSeriesSplit
