"""Figures of recordings, latents, decoded behavior and representations."""

from kalmanssl.plotting._plots import BLUE as BLUE
from kalmanssl.plotting._plots import GREEN as GREEN
from kalmanssl.plotting._plots import INK as INK
from kalmanssl.plotting._plots import MUTED as MUTED
from kalmanssl.plotting._plots import ORANGE as ORANGE
from kalmanssl.plotting._plots import calibration as calibration
from kalmanssl.plotting._plots import confusion as confusion
from kalmanssl.plotting._plots import decoded_band as decoded_band
from kalmanssl.plotting._plots import eigenvalues as eigenvalues
from kalmanssl.plotting._plots import figure_of as figure_of
from kalmanssl.plotting._plots import latent_path as latent_path
from kalmanssl.plotting._plots import new_axes as new_axes
from kalmanssl.plotting._plots import noise as noise
from kalmanssl.plotting._plots import raster as raster
from kalmanssl.plotting._plots import training as training
from kalmanssl.plotting._representation import plot_confusion as plot_confusion
from kalmanssl.plotting._representation import plot_spectrum as plot_spectrum
from kalmanssl.plotting._representation import plot_tsne as plot_tsne
