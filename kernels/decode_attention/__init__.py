"""Decode attention: the queries of one step against a compressed cache."""

from autokv.kernels.decode_attention.attention import Attention, DecodeAttention, merge

__all__ = ["Attention", "DecodeAttention", "merge"]
