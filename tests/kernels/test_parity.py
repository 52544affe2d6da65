"""Every backend that runs here against float64."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch

from autokv.kernels import BACKENDS, Attention, Backend, Integers, Operands, Plain, Rows, Side, backend
from autokv.kernels.backend import TORCH
from autokv.kernels.parity import LIMIT_FLOAT32, attention_error_at_size
from kernel_cases import CASES, OTHER_CHECKS, Case, Form, attention_error, build

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


def _with(change: Callable[[Attention], Attention]) -> Backend:
    """PyTorch's operators, whose attention is changed on its way out."""

    def attend(
        query: torch.Tensor,
        parts: Sequence[Operands],
        scaling: float,
        *,
        softcap: float | None = None,
        sliding_window: int | None = None,
    ) -> Attention:
        return change(TORCH.decode_attention(query, parts, scaling, softcap=softcap, sliding_window=sliding_window))

    return replace(TORCH, decode_attention=attend)


@pytest.mark.parametrize("at_size", [False, True])
def test_a_kernel_that_is_off_is_found(at_size: bool) -> None:
    case = next(case for case in CASES if case.name == "ragged")

    def error(kernels: Backend) -> float:
        return attention_error_at_size(build(case), kernels) if at_size else attention_error(case, kernels)

    def skewed(found: Attention) -> Attention:
        return Attention(found.output * 1.002, found.lse)

    def shifted(found: Attention) -> Attention:
        return Attention(found.output, found.lse + 0.01)

    def stray(found: Attention) -> Attention:
        output = found.output.clone()
        output[0, 0, 0] = torch.nan
        return Attention(output, found.lse)

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


@pytest.mark.filterwarnings("ignore:All-NaN slice")
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("form", [None, Form(4, "channel"), Form(4, "token"), Form(8, "token"), Form(2, "channel")])
@pytest.mark.parametrize("place", [3, 39])
def test_nan_is_never_hidden(name: str, form: Form | None, place: int) -> None:
    """A NaN among keys, values or queries is in every output that it reaches, and in no other."""
    generator = torch.Generator().manual_seed(0)
    keys, values = torch.randn(2, 1, 2, 48, 64, generator=generator)
    query = torch.randn(1, 8, 64, generator=generator)
    kernels = backend("cpu", name)

    def attend(*, key: float = 0.0, value: float = 0.0, asked: float = 0.0) -> Attention:
        sides = []
        for side, added in ((keys, key), (values, value)):
            tokens = side.clone()
            tokens[0, 1, place, 5] += added
            tokens = tokens.flatten(0, 1)
            older, window = tokens[:, :32], tokens[:, 32:].half()
            if form is None:
                packed: Plain | Integers = Plain(older.flatten(0, 1).half())
            else:
                assert form.axis is not None
                packed = TORCH.quantize_integers(
                    older.contiguous(), Rows(2, 32), bits=form.bits, axis=form.axis, group_size=form.group_size
                )
            sides.append(Side(packed, window.contiguous()))
        queries = query.clone()
        queries[0, 6, 5] += asked
        return kernels.decode_attention(queries, [Operands(1, 2, 64, Rows(2, 32), *sides)], 0.125)

    assert not attend().output.isnan().any()
    for side, heads in (("key", range(4, 8)), ("value", range(4, 8)), ("asked", [6])):
        output, lse = attend(**{side: torch.nan})
        assert output.isnan().any(dim=-1)[0].nonzero().view(-1).tolist() == [*heads], side
        assert not output[0].isnan().all(dim=-1)[:4].any(), side
        assert lse.isnan()[0].nonzero().view(-1).tolist() == ([] if side == "value" else [*heads]), side
