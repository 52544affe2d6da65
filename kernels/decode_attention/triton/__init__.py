"""Decode attention in Triton; importing this imports Triton."""

from autokv.kernels.decode_attention.triton.attention import decode_attention

__all__ = ["decode_attention"]
