"""Questions about units: how well latents predict held-out units, and which units latents and behavior depend on."""

from kalmanssl.units._held_out import score_held_out_units as score_held_out_units
from kalmanssl.units._importance import UnitImportance as UnitImportance
from kalmanssl.units._importance import unit_importance as unit_importance
