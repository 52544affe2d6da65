"""Kernels in C, compiled on the machine where they run."""

from autokv.kernels.native.library import Library, library

__all__ = ["Library", "library"]
