"""States of decoders that earlier versions saved."""

from __future__ import annotations

from typing import Any

__all__ = ["upgrade_state"]


def upgrade_state(state: Any) -> Any:
    """Return a state with the movement priors of each decoder as mixtures, if it was saved with a single one of each.

    What has not the form of an earlier version is returned unchanged, and checked as any other state.
    """
    decoders = state.get("decoders") if isinstance(state, dict) else None
    if not isinstance(decoders, dict):
        return state
    return state | {"decoders": {kind: _with_mixtures(decoder) for kind, decoder in decoders.items()}}


def _with_mixtures(decoder: Any) -> Any:
    if not isinstance(decoder, dict) or "choices" not in decoder or "movements" not in decoder:
        return decoder
    choices, movements = decoder["choices"], decoder["movements"]
    # Familiarity is absent from older decoders.
    familiarities = decoder.get("familiarities", [{"usual": float("inf"), "power": 0.0}] * len(movements))
    parts = (choices, movements, familiarities)
    if not all(isinstance(part, list) and len(part) == len(movements) for part in parts):
        return decoder
    if not all(isinstance(choice, dict) and {"kind", "scores"} <= choice.keys() for choice in choices):
        return decoder
    upgraded = {name: value for name, value in decoder.items() if name not in ("choices", "familiarities")}
    upgraded["movements"] = [
        [
            {"kind": choice["kind"], "combination": "product", "weight": 1.0}
            | {"movement": movement, "familiarity": familiarity}
        ]
        for choice, movement, familiarity in zip(*parts, strict=True)
    ]
    return upgraded | {"movement_scores": [choice["scores"] for choice in choices]}
