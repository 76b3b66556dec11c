"""Reading and writing of NWB files."""

from kalmanssl.data.nwb._interval_table import read_interval_table as read_interval_table
from kalmanssl.data.nwb._reader import open_nwb as open_nwb
from kalmanssl.data.nwb._reader import read_nwb as read_nwb
from kalmanssl.data.nwb._series import decode_text as decode_text
from kalmanssl.data.nwb._writer import write_nwb as write_nwb
