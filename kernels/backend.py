"""One interface to the kernels, and the choice of what runs behind it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from autokv.errors import RequestError
from autokv.kernels.decode_attention.eager import EagerBackend
from autokv.kernels.decode_attention.reference import ReferenceBackend
from autokv.kernels.operands import Operands


class Backend(Protocol):
    """Decode attention of one new token per sequence."""

    @property
    def name(self) -> str:
        """Its name in :data:`BACKENDS`."""

    def decode_attention(self, query: Tensor, operands: Operands, scaling: float) -> Tensor:
        """Attention over a compressed cache.

        ``query``: ``[batch, query_heads, head_dim]``, head ``h`` reading KV head ``h // (query_heads / kv_heads)``.
        Returns the same shape and dtype. A row without any token gives NaN.
        """

    def attention_16bit(self, query: Tensor, keys: Tensor, values: Tensor, scaling: float) -> Tensor:
        """The 16-bit baseline: ``keys`` and ``values`` are ``[batch, kv_heads, tokens, head_dim]`` in 16 bits."""


BACKENDS: dict[str, Callable[[torch.device], Backend]] = {
    "torch": lambda device: EagerBackend(),
    "reference": lambda device: ReferenceBackend(),
}


def backend(device: torch.device | str, name: str | None = None) -> Backend:
    """The backend ``name`` (``AUTOKV_KERNELS``), or the fastest that runs on ``device``.

    Raises:
        RequestError: there is no such backend.
    """
    chosen = name or "torch"
    if chosen not in BACKENDS:
        raise RequestError(
            f"no kernels are called {chosen!r}", field="AUTOKV_KERNELS", remedy=f"use one of {', '.join(BACKENDS)}"
        )
    return BACKENDS[chosen](torch.device(device))
