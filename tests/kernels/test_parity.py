"""Every backend that runs here against float64."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from autokv.kernels import BACKENDS, Attention, Backend, backend
from autokv.kernels.backend import TORCH
from autokv.kernels.parity import (
    CASES,
    LIMIT_FLOAT32,
    OTHER_CHECKS,
    Case,
    attention_error,
    attention_error_at_size,
    build,
)

NAMES = [name for name in BACKENDS if name != "reference"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("name", NAMES)
def test_decode_attention(name: str, case: Case) -> None:
    assert attention_error(case, backend("cpu", name)) <= case.limit


@pytest.mark.parametrize("operation", OTHER_CHECKS)
@pytest.mark.parametrize("name", NAMES)
def test_other_operations(name: str, operation: str) -> None:
    errors = OTHER_CHECKS[operation](backend("cpu", name), "cpu")
    assert {case: error for case, error in errors.items() if not error <= LIMIT_FLOAT32} == {}


def _with(attend: object) -> Backend:
    return replace(TORCH, decode_attention=attend)  # type: ignore[arg-type]


@pytest.mark.parametrize("at_size", [False, True])
def test_a_kernel_that_is_off_is_found(at_size: bool) -> None:
    case = next(case for case in CASES if case.name == "ragged")

    def error(kernels: Backend) -> float:
        return attention_error_at_size(build(case), kernels) if at_size else attention_error(case, kernels)

    def skewed(*arguments: object, **options: object) -> Attention:
        output, lse = TORCH.decode_attention(*arguments, **options)  # type: ignore[arg-type]
        return Attention(output * 1.002, lse)

    def shifted(*arguments: object, **options: object) -> Attention:
        output, lse = TORCH.decode_attention(*arguments, **options)  # type: ignore[arg-type]
        return Attention(output, lse + 0.01)

    def stray(*arguments: object, **options: object) -> Attention:
        output, lse = TORCH.decode_attention(*arguments, **options)  # type: ignore[arg-type]
        output = output.clone()
        output[0, 0, 0] = torch.nan
        return Attention(output, lse)

    assert error(TORCH) <= LIMIT_FLOAT32
    for wrong in (skewed, shifted, stray):
        assert error(_with(wrong)) > LIMIT_FLOAT32


@pytest.mark.parametrize("name", NAMES)
def test_inside_inference_mode_and_then_outside(name: str) -> None:
    case = next(case for case in CASES if case.name == "one token")
    with torch.inference_mode():
        inside = attention_error(case, backend("cpu", name))
    assert inside <= case.limit
    assert attention_error(case, backend("cpu", name)) <= case.limit
