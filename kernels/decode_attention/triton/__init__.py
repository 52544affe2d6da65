"""Decode attention in Triton; importing this imports Triton."""

from autokv.kernels.decode_attention.triton.launch import decode_attention

__all__ = ["decode_attention"]
