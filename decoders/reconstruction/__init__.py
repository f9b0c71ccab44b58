"""What the animal sees, read from its neurons."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from decoders.reconstruction.encoder import Encoder, load_encoder
    from decoders.reconstruction.inversion import invert

__all__ = ["Encoder", "invert", "load_encoder"]

_HOMES = {"Encoder": "encoder", "load_encoder": "encoder", "invert": "inversion"}


def __getattr__(name: str) -> Any:  # the live decoder imports this package and must stay without torch
    """Import what is asked for when it is asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
