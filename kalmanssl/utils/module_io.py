"""Save the weights of a network in a folder, and load them into a network with the same architecture.

The folder contains no code, and loading runs none.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from kalmanssl.errors import InputError
from kalmanssl.utils.precision import to_float32
from kalmanssl.utils.storage import load_folder, save_folder

__all__ = ["check_weights", "load_weights", "save_weights"]


def save_weights(
    path: str | os.PathLike[str], kind: str, module: nn.Module, parts: Mapping[str, str], overwrite: bool = False
) -> None:
    """Save all weights and buffers of a network in a folder.

    Parameters
    ----------
    path : path
        The folder.
    kind : str
        What is saved, for example "pair model"; `load_weights` must be given the same.
    module : nn.Module
        The network.
    parts : mapping of str to str
        Description of each part of the network; `load_weights` requires that they are equal.
    overwrite : bool
        Replace an existing folder. The old one is removed only after the new one is complete.

    Raises
    ------
    InputError
        If `path` cannot be written, exists and `overwrite` is false, or the state of `module` has values that are not
        tensors.
    """
    arrays = {}
    for name, value in module.state_dict().items():
        if not isinstance(value, Tensor):
            message = f"{name} of the {kind} is not a tensor but {type(value).__name__}, which cannot be saved"
            raise InputError(message, parameter="module")
        # The format does not support bfloat16. Half precision is unchanged by the conversion to float32 and back.
        arrays[name] = to_float32(value.detach()).cpu().numpy()
    save_folder(path, kind, arrays, {"parts": dict(parts)}, overwrite)


@torch.no_grad()
def load_weights(path: str | os.PathLike[str], kind: str, module: nn.Module, parts: Mapping[str, str]) -> None:
    """Load the weights in a folder into a network; its data types and devices do not change.

    Parameters
    ----------
    path, kind, parts
        As for `save_weights`.
    module : nn.Module
        The network, with the same architecture as the one that was saved.

    Raises
    ------
    InputError
        If the folder contains something else, is damaged, or has the weights of a different network or weights that are
        not finite. The message says what differs, and `module` is not changed.
    """
    arrays, metadata = load_folder(path, kind)
    saved = metadata.get("parts")
    saved = saved if isinstance(saved, dict) else {}
    for name in (*parts, *(name for name in saved if name not in parts)):
        if saved.get(name) != parts.get(name):
            raise InputError(
                f"the {kind} in {path} has {name} {saved.get(name, 'not given')}, but this one has "
                f"{parts.get(name, 'none')}: build it with the same settings as when it was saved",
                parameter="path",
            )
    state = module.state_dict()
    weights = {name: torch.from_numpy(value) for name, value in arrays.items()}
    check_weights(weights, state, path, kind)
    for name, value in state.items():
        value.copy_(weights[name])


def check_weights(
    found: Mapping[str, Tensor], expected: Mapping[str, Tensor], path: Any, kind: str, same_types: bool = False
) -> None:
    """Check stored weights before they are loaded into a network.

    Parameters
    ----------
    found, expected : mapping of str to Tensor
        The stored weights, and those of the network.
    path : path
        Where they are stored, for the message.
    kind : str
        What is saved, for the message.
    same_types : bool
        Whether data types must be equal. Otherwise real numbers may have another precision.

    Raises
    ------
    InputError
        If weights are missing or not known, differ in shape or type, or are not finite.
    """
    again = "build it with the same settings as when it was saved"
    for name in (*expected, *(name for name in found if name not in expected)):
        there, here = (tuple(some[name].shape) if name in some else "missing" for some in (found, expected))
        if there != here:
            raise InputError(
                f"the shape of {name:.80} in the {kind} in {path} is {there}, but in this one {here}: {again}",
                parameter="path",
            )
        one, other = found[name], expected[name]
        if one.dtype != other.dtype and (same_types or not one.is_floating_point() == other.is_floating_point()):
            raise InputError(
                f"{name} in the {kind} in {path} is {one.dtype}, but in this one {other.dtype}: {again}",
                parameter="path",
            )
        if not torch.isfinite(one).all():
            raise InputError(f"{path} is damaged ({name} has NaN or infinite values): save the {kind} again")
