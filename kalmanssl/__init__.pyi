from . import datasets as datasets
from . import identifiability as identifiability
from . import kalman as kalman
from . import recipes as recipes
from .data import Latents as Latents
from .data import Recording as Recording
from .data import align_to as align_to
from .data import running_bins as running_bins
from .decoding import PositionDecoder as PositionDecoder
from .decoding import cross_fit as cross_fit
from .decoding import rehearse as rehearse
from .errors import CollapseError as CollapseError
from .errors import DivergenceError as DivergenceError
from .errors import InputError as InputError
from .estimator import KalmanSSL as KalmanSSL
from .identifiability import check_assumptions as check_assumptions
from .images import PairAugmentation as PairAugmentation
from .images import ResNet18 as ResNet18
from .images import SmallConvEncoder as SmallConvEncoder
from .images import fit_images as fit_images
from .images import image_features as image_features
from .models import PairModel as PairModel
from .selection import BlockedTimeSeriesSplit as BlockedTimeSeriesSplit
from .selection import Selection as Selection
from .selection import select as select

__version__: str
