"""Recordings of the DANDI archive: only the units, the behavior and the intervals are downloaded.

The archive's REST API gives the address of a file, and HDF5 reads it with HTTP range requests. The standard library and
h5py are sufficient for that, so there are no further dependencies.
"""

from kalmanssl.datasets.dandi._api import API as API
from kalmanssl.datasets.dandi._api import Asset as Asset
from kalmanssl.datasets.dandi._api import find_asset as find_asset
from kalmanssl.datasets.dandi._api import list_assets as list_assets
from kalmanssl.datasets.dandi._api import parse_dandiset as parse_dandiset
from kalmanssl.datasets.dandi._fetch import Fetched as Fetched
from kalmanssl.datasets.dandi._fetch import fetch as fetch
from kalmanssl.datasets.dandi._hc11 import HC11_SESSIONS as HC11_SESSIONS
from kalmanssl.datasets.dandi._hc11 import fetch_hc11 as fetch_hc11
from kalmanssl.datasets.dandi._http import HttpClient as HttpClient
