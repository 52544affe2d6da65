"""Hardware: what a device is, and how fast it was measured, or is said, to be.

Everything but :func:`probe` loads without torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from autokv.hardware.documents import read_profile
from autokv.hardware.finding import find
from autokv.hardware.profile import HardwareProfile, Rate

if TYPE_CHECKING:
    from autokv.hardware.measuring import probe

__all__ = ["HardwareProfile", "Rate", "find", "probe", "read_profile"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - what has no type before it is loaded
    """Load what needs torch when it is asked for."""
    if name != "probe":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module("autokv.hardware.measuring").probe
