"""One interface to the kernels, and the choice of what runs behind it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from autokv.errors import RequestError
from autokv.kernels import evict_gather, quantize_pack, reference, window_scores
from autokv.kernels.decode_attention import DecodeAttention, eager, native
from autokv.kernels.operands import Axis, Float8, Integers
from autokv.kernels.rows import Rows


class QuantizeIntegers(Protocol):
    """Asymmetric min-max integers, packed."""

    def __call__(
        self, dense: Tensor, rows: Rows, *, bits: int, axis: Axis, group_size: int, rotated: bool = False
    ) -> Integers:
        """Quantize ``dense`` ``[rows, longest, width]`` of any float dtype, laid out as :class:`Rows` says.

        ``rotated`` takes the tokens into the Hadamard basis first. For axis ``token``, ``group_size`` divides the
        width. Scale and minimum are rounded outwards to float16.
        """


class QuantizeFloat8(Protocol):
    """e4m3 floats with one scale per row."""

    def __call__(self, dense: Tensor, rows: Rows, *, rotated: bool = False, scale: Tensor | None = None) -> Float8:
        """Quantize ``dense`` ``[rows, longest, width]``; a row's scale is its largest magnitude over 448.

        ``scale``: float32 ``[rows]`` to use instead; what it cannot reach saturates.
        """


class WindowScores(Protocol):
    """Attention that tokens receive from the queries of an observation window."""

    def __call__(self, query: Tensor, keys: Tensor, scaling: float, *, softcap: float | None = None) -> Tensor:
        """Causal softmax attention, summed over queries and averaged over the query heads of a KV head.

        ``query``: ``[batch, query_heads, window, head_dim]`` of the newest ``window`` tokens, the observation window;
        ``keys``: ``[batch, kv_heads, tokens, head_dim]``. Returns float32 ``[batch, kv_heads, tokens]``.
        """


@dataclass(frozen=True)
class Backend:
    """What runs the operations on one kind of device."""

    name: str
    """Its name in :data:`BACKENDS`."""
    decode_attention: DecodeAttention
    attention_16bit: Callable[[Tensor, Tensor, Tensor, float], Tensor]
    """The best 16-bit attention that PyTorch has here, to compare with: query ``[batch, query_heads, head_dim]``, keys
    and values ``[batch, kv_heads, tokens, head_dim]`` in 16 bits, scaling."""
    quantize_integers: QuantizeIntegers
    quantize_float8: QuantizeFloat8
    evict_gather: Callable[[Tensor, Tensor], Tensor]
    """Tokens ``[rows, tokens, width]`` and int64 places ``[rows, n]`` to ``[rows, n, width]``."""
    window_scores: WindowScores


TORCH = Backend(
    name="torch",
    decode_attention=eager.decode_attention,
    attention_16bit=eager.attention_16bit,
    quantize_integers=quantize_pack.quantize_integers,
    quantize_float8=quantize_pack.quantize_float8,
    evict_gather=evict_gather.evict_gather,
    window_scores=window_scores.window_scores,
)

CPU = replace(TORCH, name="cpu", decode_attention=native.decode_attention)

REFERENCE = replace(
    TORCH,
    name="reference",
    decode_attention=reference.decode_attention,
    attention_16bit=reference.attention_16bit,
    evict_gather=reference.evict_gather,
    window_scores=reference.window_scores,
)


def _triton(device: torch.device) -> Backend:
    # Importing it imports Triton, which not every machine has and most commands do without.
    from autokv.kernels.triton_backend import triton_backend

    return triton_backend(device)


BACKENDS: dict[str, Callable[[torch.device], Backend]] = {
    "torch": lambda device: TORCH,
    "cpu": lambda device: CPU,
    "triton": _triton,
    "reference": lambda device: REFERENCE,
}


def default_backend(device: torch.device) -> tuple[str, str]:
    """The name of the fastest backend that runs on ``device``, and why it is that one."""
    if device.type == "cpu":
        return "cpu", "the device is a CPU"
    from autokv.kernels.triton_backend import obstacle

    problem = obstacle(device)
    return ("triton", f"the device is {device.type}") if problem is None else ("torch", problem[0])


def backend(device: torch.device | str, name: str | None = None) -> Backend:
    """The backend ``name`` (``AUTOKV_KERNELS``), or the fastest that runs on ``device``.

    Raises:
        RequestError: there is no such backend, or it does not run on ``device``.
    """
    device = torch.device(device)
    chosen = name or default_backend(device)[0]
    if chosen not in BACKENDS:
        raise RequestError(
            f"no kernels are called {chosen!r}", field="AUTOKV_KERNELS", remedy=f"use one of {', '.join(BACKENDS)}"
        )
    return BACKENDS[chosen](device)
