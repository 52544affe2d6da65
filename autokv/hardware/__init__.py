"""Hardware: what a device is, and how fast it was measured to be."""

from autokv.hardware.probe import probe
from autokv.hardware.profile import HardwareProfile, Rate

__all__ = ["HardwareProfile", "Rate", "probe"]
