"""Weights of a network in a folder, to be put into one that was built alike: no code is kept, none is run."""

from __future__ import annotations

import os
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from kalmanssl.errors import InputError
from kalmanssl.utils.precision import to_float32
from kalmanssl.utils.storage import load_folder, save_folder

__all__ = ["load_weights", "save_weights"]


def save_weights(
    path: str | os.PathLike[str], kind: str, module: nn.Module, parts: Mapping[str, str], overwrite: bool = False
) -> None:
    """Write all weights and buffers of a network into the folder `path`.

    Parameters
    ----------
    path : path
    kind : str
        What is stored; `load_weights` asks for the same.
    module : nn.Module
    parts : mapping of str to str
        What the network is made of, in words, by which `load_weights` knows one that was built alike.
    overwrite : bool
        Replace an existing folder; the old one goes only when the new one is complete.

    Raises
    ------
    InputError
        If `path` exists and `overwrite` is false or cannot be written, or the state of a part is no tensor.
    """
    arrays = {}
    for name, value in module.state_dict().items():
        if not isinstance(value, Tensor):
            raise InputError(f"{name} of the {kind} is no tensor but {type(value).__name__}, which cannot be saved")
        # The format knows no bfloat16; what is in half precision goes there and back unchanged.
        arrays[name] = to_float32(value.detach()).cpu().numpy()
    save_folder(path, kind, arrays, {"parts": dict(parts)}, overwrite)


@torch.no_grad()
def load_weights(path: str | os.PathLike[str], kind: str, module: nn.Module, parts: Mapping[str, str]) -> None:
    """Put the weights in the folder `path` into a network, in its own precision and on its own device.

    Raises
    ------
    InputError
        If the folder holds nothing of this kind, is damaged, or its weights are those of another network; the message
        says what differs, and the network is as it was.
    """
    arrays, metadata = load_folder(path, kind)
    saved = metadata.get("parts")
    saved = saved if isinstance(saved, dict) else {}
    for name in (*parts, *(name for name in saved if name not in parts)):
        if saved.get(name) != parts.get(name):
            raise InputError(
                f"the {kind} in {path} has {name} {saved.get(name, 'not given')}, but this one has "
                f"{parts.get(name, 'none of it')}: build it as it was built when it was saved"
            )
    state = module.state_dict()
    for name in (*state, *(name for name in arrays if name not in state)):
        there, here = (tuple(some[name].shape) if name in some else "missing" for some in (arrays, state))
        if there != here:
            raise InputError(
                f"the {kind} in {path} does not fit: its {name} is {there}, that of this one {here}; build it as it "
                "was built when it was saved"
            )
    for name, value in state.items():
        value.copy_(torch.from_numpy(arrays[name]))
