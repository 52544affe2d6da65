"""Versions of what figures depend on. Loads without any of it."""

from __future__ import annotations

import platform
from importlib.metadata import version

PACKAGES = ("autokv", "torch", "transformers", "optuna", "numpy")


def versions() -> dict[str, str]:
    """Of Python and of the packages that run a job."""
    return {"python": platform.python_version(), **{package: version(package) for package in PACKAGES}}
