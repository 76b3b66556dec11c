"""Encoders that receive one step at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from kalmanssl.errors import InputError
from kalmanssl.kalman.kernels import has_compiler
from kalmanssl.networks._encoders import MLPEncoder, Normalize, WindowEncoder
from kalmanssl.networks._residual_encoder import ResidualEncoder
from kalmanssl.utils.torch_ops import seeded

__all__ = ["OnlineEncoder", "encoder_memory"]

MAX_MEMORY = 64  # steps that are tried for an encoder of unknown memory


class OnlineEncoder:
    """Apply an encoder to several sequences whose steps arrive one at a time.

    The results are those of the encoder on the whole sequence. Built-in encoders are compiled, or run in numpy without
    a compiler, since calls of torch take longer than the arithmetic of one step. Any other module receives the last
    steps of the sequence.

    Parameters
    ----------
    encoder : nn.Module
        In evaluation mode and float64; maps (batch, time, features) to (batch, time, latent).
    n_sequences, n_features : int
    memory : int, optional
        Steps that the module receives, the present one included. By default it is found by trials.

    Attributes
    ----------
    recent : (sequences, memory - 1, inputs)
        Inputs of the last steps of each sequence, the latest first; zero before the start.
    n_recent : (sequences,) int
        Steps of each sequence that have arrived, at most `memory` - 1.

    Raises
    ------
    InputError
        If the encoder is not built in and uses later steps, or more than 64 earlier ones without a given `memory`.
    """

    def __init__(self, encoder: nn.Module, n_sequences: int, n_features: int, memory: int | None = None) -> None:
        self._compiled: _CompiledEncoder | None = None
        if type(encoder) in (WindowEncoder, MLPEncoder, ResidualEncoder):
            assert isinstance(encoder, WindowEncoder)
            self.memory = encoder.window
            if has_compiler():
                self._compiled = _CompiledEncoder(encoder, n_features)
            self._normalize, self._apply = _normalization(encoder.normalize), _window_function(encoder)
        else:
            self.memory = encoder_memory(encoder, n_features) if memory is None else memory
            self._normalize, self._apply = _no_normalization, _module_function(encoder)
        self.recent = np.zeros((n_sequences, self.memory - 1, n_features))
        self.n_recent = np.zeros(n_sequences, dtype=int)

    def reset(self) -> None:
        """Begin new sequences."""
        self.recent[:] = 0.0
        self.n_recent[:] = 0

    def encode(self, sequence: int, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the latent (latent,) of the next step, and the input that `keep` needs; the state does not change."""
        if self._compiled is not None:
            return self._compiled(features, self.recent[sequence])
        values = self._normalize(features)
        if self.memory == 1:
            return self._apply(values, self.recent[sequence], 0), values
        return self._apply(values, self.recent[sequence], int(self.n_recent[sequence])), values

    def keep(self, sequence: int, values: np.ndarray | None) -> None:
        """Remember the input of a step of a sequence; None for a missing step, which counts as zeros."""
        if self.memory == 1:
            return
        recent = self.recent[sequence]
        recent[1:] = recent[:-1]
        recent[0] = 0.0 if values is None else values
        self.n_recent[sequence] = min(self.n_recent[sequence] + 1, self.memory - 1)


def encoder_memory(encoder: nn.Module, n_features: int) -> int:
    """Return the number of steps, the present one included, that the latent of a step depends on, by trials.

    Raises
    ------
    InputError
        If a latent depends on later steps, or on more than 64 steps.
    """
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 4, (1, MAX_MEMORY + 32, n_features), generator=generator).double()
    name = type(encoder).__name__
    with torch.inference_mode(), seeded(0):
        whole = encoder(x)[0]
        tolerance = 1e-9 * float(whole.abs().max().clamp_min(1e-12))

        def equal(first: int, stop: int) -> bool:
            """Return whether the last latent of a part of the sequence is that of the whole sequence."""
            return bool((encoder(x[:, first:stop])[0, -1] - whole[stop - 1]).abs().max() <= tolerance)

        stops = (x.shape[1] - 7, x.shape[1])
        if not equal(0, stops[0]):
            raise InputError(
                f"the encoder {name} uses later steps, which are not known online: use an encoder whose output depends "
                "on the present and the past only",
                parameter="encoder",
            )
        for memory in (1, 2, 4, 8, 16, 32, MAX_MEMORY):
            if all(equal(stop - memory, stop) for stop in stops):
                return memory
    raise InputError(
        f"the encoder {name} uses more than {MAX_MEMORY} steps of the past: give encoder_memory, the number of steps "
        "that it receives online",
        parameter="encoder_memory",
    )


def _no_normalization(features: np.ndarray) -> np.ndarray:
    return features


def _normalization(normalize: Normalize) -> Callable[[np.ndarray], np.ndarray]:
    """Return `Normalize` for one step in numpy."""
    sqrt, unit_norm, offset = normalize.transform == "sqrt", normalize.unit_norm, normalize.norm_offset

    def apply(features: np.ndarray) -> np.ndarray:
        x = np.sqrt(features) if sqrt else features
        return x / (float(np.sqrt(x.dot(x))) + offset) if unit_norm else x

    return apply


def _window_function(encoder: WindowEncoder) -> Callable[[np.ndarray, np.ndarray, int], np.ndarray]:
    """Return a built-in encoder for one step, given its normalized input and those of the steps before."""
    network = _network(encoder.network)
    windowed = encoder.window > 1

    def gather(values: np.ndarray, recent: np.ndarray) -> np.ndarray:
        return np.concatenate([values, recent.ravel()]) if windowed else values

    if not isinstance(encoder, ResidualEncoder):
        return lambda values, recent, n_recent: network(gather(values, recent))
    linear = _array(encoder.linear.weight)
    mean, inverse_scale, gain = _array(encoder.feature_mean), 1 / float(encoder.feature_scale), _array(encoder.gain)

    def residual(values: np.ndarray, recent: np.ndarray, n_recent: int) -> np.ndarray:
        centered = gather(values, recent) - mean
        return linear.dot(centered) + gain * network(centered * inverse_scale)

    return residual


def _module_function(encoder: nn.Module) -> Callable[[np.ndarray, np.ndarray, int], np.ndarray]:
    """Return a module for one step."""

    def apply(values: np.ndarray, recent: np.ndarray, n_recent: int) -> np.ndarray:
        steps = np.concatenate([recent[:n_recent][::-1], values[None]]) if n_recent else values[None]
        with torch.inference_mode():
            return np.asarray(encoder(torch.from_numpy(steps[None]))[0, -1].numpy())

    return apply


class _CompiledEncoder:
    """A built-in encoder for one step in compiled code."""

    def __init__(self, encoder: WindowEncoder, n_features: int) -> None:
        from kalmanssl.networks._online_kernels import encoder_kernel

        self._kernel, self._n_features = encoder_kernel, n_features
        normalize = encoder.normalize
        normalization = (normalize.transform == "sqrt", normalize.unit_norm, float(normalize.norm_offset))
        linear = [number for number, layer in enumerate(encoder.network) if isinstance(layer, nn.Linear)]
        layers: list[Any] = [encoder.network[number] for number in linear]
        rectified = tuple(number + 1 < len(encoder.network) and number + 1 not in linear for number in linear)
        weights = tuple((_array(layer.weight.T), _array(layer.bias)) for layer in layers)
        n_inputs, self._latent_dim = layers[0].in_features, layers[-1].out_features
        residual = (np.zeros((0, 0)), np.zeros(0), np.ones(1), np.zeros(0))
        if isinstance(encoder, ResidualEncoder):
            scale = np.array([1 / float(encoder.feature_scale)])
            gain = np.array(np.broadcast_to(_array(encoder.gain), (self._latent_dim,)))
            residual = (_array(encoder.linear.weight.T), _array(encoder.feature_mean), scale, gain)
        units = max(layer.out_features for layer in layers)
        scratch = (np.empty(n_inputs), np.empty(n_inputs), np.empty(units), np.empty(units))
        self._arguments = (normalization, weights, rectified, residual, scratch)
        self(np.zeros(n_features), np.zeros((encoder.window - 1, n_features)))  # compiles now

    def __call__(self, features: np.ndarray, recent: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        values, latent = np.empty(self._n_features), np.empty(self._latent_dim)
        self._kernel(features, recent, *self._arguments, values, latent)
        return latent, values


def _network(network: nn.Sequential) -> Callable[[np.ndarray], np.ndarray]:
    """Return a perceptron of linear layers and ReLU for a vector, in numpy."""
    layers = [(_array(layer.weight), _array(layer.bias)) if isinstance(layer, nn.Linear) else None for layer in network]

    def apply(x: np.ndarray) -> np.ndarray:
        for layer in layers:
            x = np.maximum(x, 0.0) if layer is None else layer[0].dot(x) + layer[1]
        return x

    return apply


def _array(parameter: torch.Tensor) -> np.ndarray:
    return np.array(parameter.detach().double().cpu().numpy(), order="C")
