"""Decode attention in Triton; the modules of this package import it."""
