"""Saving of decoders, and checks of what is loaded."""

from kalmanssl.decoding.saving._saving import StateMixin as StateMixin
