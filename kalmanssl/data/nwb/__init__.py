"""Reading and writing of NWB files."""

from kalmanssl.data.nwb._append import add_module_to_copy as add_module_to_copy
from kalmanssl.data.nwb._append import check_module_for_copy as check_module_for_copy
from kalmanssl.data.nwb._interval_table import read_interval_table as read_interval_table
from kalmanssl.data.nwb._output_series import behavior_series as behavior_series
from kalmanssl.data.nwb._output_series import check_nwb_name as check_nwb_name
from kalmanssl.data.nwb._output_series import compress as compress
from kalmanssl.data.nwb._output_series import container_type as container_type
from kalmanssl.data.nwb._output_series import fill_container as fill_container
from kalmanssl.data.nwb._output_series import time_fields as time_fields
from kalmanssl.data.nwb._output_session import new_file as new_file
from kalmanssl.data.nwb._output_session import session_metadata as session_metadata
from kalmanssl.data.nwb._reader import open_nwb as open_nwb
from kalmanssl.data.nwb._reader import read_nwb as read_nwb
from kalmanssl.data.nwb._series import decode_text as decode_text
from kalmanssl.data.nwb._writer import save_nwb as save_nwb
from kalmanssl.data.nwb._writer import write_nwb as write_nwb
