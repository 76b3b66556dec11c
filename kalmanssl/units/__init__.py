"""Questions about units: how well latents predict units that were held out."""

from kalmanssl.units._held_out import score_held_out_units as score_held_out_units
