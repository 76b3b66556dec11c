"""Runs: fit a recording file and save the model, the decoder, their evaluation and a report in a folder."""

from kalmanssl.runs._alarms import Alarm as Alarm
from kalmanssl.runs._alarms import alarm_lines as alarm_lines
from kalmanssl.runs._demo import run_demo as run_demo
from kalmanssl.runs._evaluation import Evaluation as Evaluation
from kalmanssl.runs._export import check_decoded_target as check_decoded_target
from kalmanssl.runs._export import write_decoded as write_decoded
from kalmanssl.runs._fit import fit_run as fit_run
from kalmanssl.runs._gain import gain_line as gain_line
from kalmanssl.runs._gain import held_out_gain as held_out_gain
from kalmanssl.runs._run import Run as Run
from kalmanssl.runs._run import open_run as open_run
from kalmanssl.runs._run import read_for_run as read_for_run
from kalmanssl.runs._run import read_recording as read_recording
from kalmanssl.runs._run import read_to_decode as read_to_decode
from kalmanssl.runs._run import summarize_recording as summarize_recording
from kalmanssl.runs._settings import RunSettings as RunSettings
from kalmanssl.runs._settings import parse_windows as parse_windows
from kalmanssl.runs._text import score_sentence as score_sentence
from kalmanssl.runs._trust_scores import trust_scores as trust_scores
from kalmanssl.runs._trust_scores import trust_sentence as trust_sentence
from kalmanssl.runs._windows import part_of as part_of
from kalmanssl.runs._windows import was_fitted as was_fitted
from kalmanssl.runs.report import assumptions_line as assumptions_line
from kalmanssl.runs.report import reference_line as reference_line
from kalmanssl.runs.report import render_page as render_page
from kalmanssl.runs.report import score_rows as score_rows
