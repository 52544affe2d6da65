"""The third stage: few directions in place of many channels."""

from autokv.compression.low_rank.latent import latent_basis
from autokv.compression.low_rank.residual import low_rank_factors

__all__ = ["latent_basis", "low_rank_factors"]
