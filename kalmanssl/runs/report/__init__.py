"""The report of a run: one page of figures."""

from kalmanssl.runs.report._assumptions import assumption_values as assumption_values
from kalmanssl.runs.report._assumptions import assumptions_line as assumptions_line
from kalmanssl.runs.report._error_profile import error_profile as error_profile
from kalmanssl.runs.report._error_profile import map_arrays as map_arrays
from kalmanssl.runs.report._labels import label_rows as label_rows
from kalmanssl.runs.report._page import render_page as render_page
from kalmanssl.runs.report._report import build_report as build_report
from kalmanssl.runs.report._sections import calibration_rows as calibration_rows
from kalmanssl.runs.report._sections import conditional_rows as conditional_rows
from kalmanssl.runs.report._sections import score_rows as score_rows
from kalmanssl.runs.report._tiles import reference_line as reference_line
from kalmanssl.runs.report._tiles import reference_rows as reference_rows
from kalmanssl.runs.report._tiles import tiles as tiles
