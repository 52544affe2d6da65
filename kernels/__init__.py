"""The operations that decide speed, each with a naive reference; ``backend`` picks what runs them."""

from autokv.kernels.backend import BACKENDS, Backend, backend
from autokv.kernels.operands import Float8, Integers, Operands, Packed, Plain, Side, held_tensors
from autokv.kernels.rows import Rows

__all__ = [
    "BACKENDS",
    "Backend",
    "Float8",
    "Integers",
    "Operands",
    "Packed",
    "Plain",
    "Rows",
    "Side",
    "backend",
    "held_tensors",
]
