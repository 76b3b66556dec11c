"""Figures of recordings, latents, decoded behavior and representations.

Each function draws into the axes `ax`, or into those of a new figure, and returns the axes. Where it makes sense, the
first argument can be the object itself: a `Recording`, `Latents`, a `DecodedPosition` or a fitted `KalmanSSL`. Colors
can be told apart with any color vision. Behavior with the unit "rad" is drawn in radians, with ticks in degrees. The
global state of pyplot is not used, so the functions can be called in a thread or a server. ``ax.figure.savefig(...)``
writes a file.
"""

from kalmanssl.plotting._color_maps import cyclic_colors as cyclic_colors
from kalmanssl.plotting._color_maps import sequential_colors as sequential_colors
from kalmanssl.plotting._conditions import plot_by_condition as plot_by_condition
from kalmanssl.plotting._decoding import plot_calibration as plot_calibration
from kalmanssl.plotting._decoding import plot_decoded as plot_decoded
from kalmanssl.plotting._decoding import plot_decoded_against_tracked as plot_decoded_against_tracked
from kalmanssl.plotting._decoding import plot_label_probabilities as plot_label_probabilities
from kalmanssl.plotting._dynamics import plot_eigenvalues as plot_eigenvalues
from kalmanssl.plotting._dynamics import plot_gain as plot_gain
from kalmanssl.plotting._dynamics import plot_training as plot_training
from kalmanssl.plotting._dynamics import time_constants as time_constants
from kalmanssl.plotting._errors import plot_error_by_place as plot_error_by_place
from kalmanssl.plotting._errors import plot_error_by_time as plot_error_by_time
from kalmanssl.plotting._errors import plot_error_map as plot_error_map
from kalmanssl.plotting._latents import explained_variance as explained_variance
from kalmanssl.plotting._latents import latent_axis_label as latent_axis_label
from kalmanssl.plotting._latents import plot_latents as plot_latents
from kalmanssl.plotting._latents import plot_log_likelihood as plot_log_likelihood
from kalmanssl.plotting._latents import plot_noise as plot_noise
from kalmanssl.plotting._latents import principal_axes as principal_axes
from kalmanssl.plotting._maps import plot_map as plot_map
from kalmanssl.plotting._maps import plot_turns as plot_turns
from kalmanssl.plotting._recording import order_by_peak as order_by_peak
from kalmanssl.plotting._recording import plot_raster as plot_raster
from kalmanssl.plotting._representation import plot_confusion as plot_confusion
from kalmanssl.plotting._representation import plot_spectrum as plot_spectrum
from kalmanssl.plotting._representation import plot_tsne as plot_tsne
from kalmanssl.plotting._ring import plot_phase as plot_phase
from kalmanssl.plotting._ring import plot_ring as plot_ring
from kalmanssl.plotting._selection import plot_selection as plot_selection
from kalmanssl.plotting._style import figure_of as figure_of
from kalmanssl.plotting._style import new_axes as new_axes
from kalmanssl.plotting._svg import figure_to_svg as figure_to_svg
from kalmanssl.plotting._time_labels import label_time as label_time
from kalmanssl.plotting._time_labels import time_origin as time_origin
from kalmanssl.plotting._units import plot_unit_importance as plot_unit_importance
