"""A device that behaves like a GPU on a machine without one, to find tensors that are on the wrong device.

Its tensors are stored on the CPU, but report another device. As on a GPU they have no numpy arrays, an operation of
them with tensors on the CPU is refused unless these are scalars, and a generator of random numbers of the CPU cannot
fill them. The name of the device is "lazy", whose derivatives autograd computes in the calling thread.
"""

from __future__ import annotations

from contextlib import contextmanager

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

DEVICE = torch.device("lazy")

_aten = torch.ops.aten
# Operations that accept tensors on two devices.
_MIXED = {_aten.copy_.default, _aten.index.Tensor, _aten.index_put_.default, _aten._index_put_impl_.default}


class OnDevice(torch.Tensor):
    """A tensor on the device; `stored` is its content on the CPU."""

    @staticmethod
    def __new__(cls, stored):
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            stored.size(),
            strides=stored.stride(),
            storage_offset=stored.storage_offset(),
            dtype=stored.dtype,
            device=DEVICE,
        )
        made.stored = stored
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, function, types, arguments=(), keywords=None):
        return run(function, arguments, keywords or {})

    def __repr__(self):
        return f"OnDevice({self.stored!r})"


def run(function, arguments, keywords):
    """Run an operation on the CPU; its results are on the device if its arguments are."""
    tensors = [value for value in tree_flatten((arguments, keywords))[0] if isinstance(value, torch.Tensor)]
    ours = {id(value.stored): value for value in tensors if isinstance(value, OnDevice)}
    outside = [value for value in tensors if not isinstance(value, OnDevice) and value.ndim]
    if ours and outside and function not in _MIXED:
        raise RuntimeError(f"{function}: expected all tensors to be on the same device, found {DEVICE} and cpu")
    target = keywords.get("device")
    on_device = bool(ours) if target is None else torch.device(target) == DEVICE
    if function is _aten.copy_.default:
        on_device = isinstance(arguments[0], OnDevice)
    generator = keywords.get("generator")
    if on_device and generator is not None:
        raise RuntimeError(f"{function}: expected a generator of the device {DEVICE}, found one of the cpu")
    if target is not None:
        keywords = {**keywords, "device": torch.device("cpu")}
    arguments, keywords = tree_map(lambda v: v.stored if isinstance(v, OnDevice) else v, (arguments, keywords))
    found = function(*arguments, **keywords)

    def placed(value):
        if not isinstance(value, torch.Tensor):
            return value
        if id(value) in ours:
            return ours[id(value)]  # an operation in place
        if not on_device:
            return value
        return OnDevice(value)

    return tree_map(placed, found)


class _Mode(TorchDispatchMode):
    """Makes tensors on the device where these are asked for."""

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        return run(function, arguments, keywords or {})


class _Functions(TorchFunctionMode):
    """Replaces what tensors with another class cannot do: be resized for products, become lists, and make others."""

    def __torch_function__(self, function, types, arguments=(), keywords=None):
        keywords = dict(keywords or {})
        if function is torch.matmul and isinstance(keywords.get("out"), OnDevice):
            out = keywords.pop("out")
            return out.copy_(function(*arguments, **keywords))
        if function is torch.Tensor.tolist and isinstance(arguments[0], OnDevice):
            return arguments[0].stored.tolist()
        if function is torch.Tensor.new_tensor and isinstance(arguments[0], OnDevice):
            return arguments[0].stored.new_tensor(*arguments[1:], **keywords).to(DEVICE)
        return function(*arguments, **keywords)


@contextmanager
def pretended_gpu():
    """Yield the device; it exists inside."""
    with _Mode(), _Functions():
        yield DEVICE
