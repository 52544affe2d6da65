"""The operations that decide speed, each with a naive reference; ``backend`` picks what runs them."""

from autokv.kernels.backend import BACKENDS, Backend, backend
from autokv.kernels.batch import join, select
from autokv.kernels.decode_attention import Attention, merge
from autokv.kernels.operands import Float8, Integers, LowRankResidual, Operands, Packed, Plain, Side, held_tensors
from autokv.kernels.rows import Rows

__all__ = [
    "BACKENDS",
    "Attention",
    "Backend",
    "Float8",
    "Integers",
    "LowRankResidual",
    "Operands",
    "Packed",
    "Plain",
    "Rows",
    "Side",
    "backend",
    "held_tensors",
    "join",
    "merge",
    "select",
]
