"""Cost models from kernel tables and by bytes, added up by hand."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autokv.hardware import find
from autokv.hardware.silicon import SiliconTables, tables_of
from autokv.serving import CostModel, Curve, Grid, SequenceBytes, SimulatedEngine, compare
from autokv.serving.cost_model import COMPRESS_LAUNCHES, Basis, ModelShape, Product, by_bytes
from autokv.serving.silicon_costs import ELEMENTWISE, silicon_costs
from autokv.workload import WorkloadTrace

SHAPE = ModelShape(
    parameters=1,
    weights_bytes=1,
    layers=3,
    query_heads=4,
    kv_heads=2,
    head_dim=16,
    dtype="bfloat16",
    products=(Product(256, 64, 3), Product(64, 256, 3), Product(1024, 64, head=True)),
)
SEQUENCE = SequenceBytes(float(SHAPE.kv_bytes_per_token))


@pytest.fixture
def tables(silicon_tables: Path) -> SiliconTables:
    found = tables_of(find("h100-sxm"))
    assert found is not None
    return found


def costs(tables: SiliconTables, shape: ModelShape = SHAPE, **more: str) -> CostModel:
    found = silicon_costs(tables, shape, SEQUENCE, device="H100", max_batch=8, **more)
    assert found is not None
    return found


def test_an_iteration_is_its_products_and_the_bytes_between_them(tables: SiliconTables) -> None:
    found = costs(tables)
    for tokens in (1, 8, 64, 512):
        layers = 3 * 2 * 256 * 64 * (1 + tokens / 100) / 1e9
        head = 1024 * 64 * (1 + min(tokens, 8) / 100) / 1e9
        between = tokens * 3 * 2 * 2 * (256 + 64) / 0.5e12
        assert found.rest(tokens) == pytest.approx(layers + head + between + ELEMENTWISE * 3 * 2e-6)
    assert found.decode_attention(8, 1024) == pytest.approx(3 * 8 * (4 + 2 * 1024 / 100) / 1e6)
    assert found.decode_attention(4, 128) == pytest.approx(3 * 4 * (4 + 2 * 128 / 100) / 1e6)
    assert found.prefill_attention(256) == pytest.approx(3 * 4 * 256 / 1e6)
    assert found.prefill_attention.measured_to == 1024
    assert found.basis == "silicon"
    assert "Predicted for H100 from kernel times measured on NVIDIA H100" in str(found.predicted)


def test_layers_with_a_window_attend_to_no_more(tables: SiliconTables) -> None:
    sliding = costs(tables, replace(SHAPE, sliding_layers=2, window=128))
    step = 8 * (4 + 2 * 128 / 100) / 1e6
    assert sliding.decode_attention(8, 1024) == pytest.approx(8 * (4 + 2 * 1024 / 100) / 1e6 + 2 * step)
    assert sliding.prefill_attention(1024) < costs(tables).prefill_attention(1024) * 3


def test_what_tables_do_not_cover_is_left_to_others(tables: SiliconTables) -> None:
    for shape in (
        replace(SHAPE, dtype="float32"),
        replace(SHAPE, products=()),
        replace(SHAPE, head_dim=24),
    ):
        assert silicon_costs(tables, shape, SEQUENCE, device="H100", max_batch=8) is None


def test_half_of_the_bytes_is_half_of_the_tokens(tables: SiliconTables) -> None:
    full = costs(tables)
    half = by_bytes(full, SequenceBytes(SEQUENCE.per_token / 2), bandwidth=1e12, launch=5e-6, layers=3)
    for batch in (1, 8):
        assert half.decode_attention(batch, 1024) == pytest.approx(full.decode_attention(batch, 512))
    assert half.compress(1024) == pytest.approx(COMPRESS_LAUNCHES * 3 * 5e-6 + 1024 * 1.5 * SEQUENCE.per_token / 1e12)
    assert half.rest == full.rest
    assert half.prefill_attention == full.prefill_attention
    assert "follows from its bytes" in str(half.remark)


@settings(max_examples=30, deadline=None)
@given(share=st.floats(0.05, 1.0), window=st.integers(0, 256), held=st.integers(1, 1024))
def test_fewer_bytes_never_cost_more_and_a_window_never_less(share: float, window: int, held: int) -> None:
    line = Curve((0.0, 64.0, 1024.0), (1e-5, 1e-4, 1e-3))
    full = CostModel(line, line, Curve((1.0,), (0.0,)), Grid((1, 8), (line, line.scaled(7.0))), SEQUENCE)
    bounded = partial(by_bytes, full, bandwidth=1e12, launch=1e-6, layers=3)
    small = bounded(SequenceBytes(share * SEQUENCE.per_token))
    fixed = SequenceBytes(share * SEQUENCE.per_token, window * SEQUENCE.per_token)
    windowed = bounded(fixed)
    values = [model.decode_attention(8, held) for model in (small, windowed, full)]
    assert values[0] <= values[1] * (1 + 1e-9)
    assert values[1] <= values[2] * (1 + 1e-9)


@pytest.mark.parametrize(
    ("basis", "opening"),
    [
        ("measured", None),
        ("silicon", "predicted from kernel tables: "),
        ("fitted", "predicted from costs fitted to a server's log: "),
        ("estimated", "predicted, unvalidated: "),
    ],
)
@pytest.mark.parametrize("capacity", [2e5, 1e9, 100.0], ids=["short", "plenty", "no block"])
def test_a_verdict_opens_with_what_its_figures_are(basis: Basis, opening: str | None, capacity: float) -> None:
    line = Curve((0.0, 64.0, 1024.0), (1e-5, 1e-4, 1e-3))
    full = CostModel(line, line, Curve((1.0,), (0.0,)), Grid((1, 8), (line, line.scaled(7.0))), SEQUENCE)
    full = replace(full, basis=basis, predicted=None if opening is None else "Somehow")
    small = by_bytes(full, SequenceBytes(1.0), bandwidth=1e12, launch=0.0, layers=3)
    sizes = np.full(12, 100)
    trace = WorkloadTrace("t", "test", np.arange(12) / 100, sizes, sizes)
    engines = [
        SimulatedEngine(name, costs, size) for name, costs, size in (("small", small, 1e9), ("16-bit", full, capacity))
    ]
    found = compare(trace, *engines)
    assert found.verdict.startswith("predicted") == (opening is not None)
    if opening is not None:
        assert found.verdict.startswith(opening)
        assert " here" not in found.verdict
    assert (found.to_dict()["basis"], found.to_dict()["predicted"]) == (basis, full.predicted)


def test_a_cost_model_and_its_document_are_the_same(tables: SiliconTables) -> None:
    found = by_bytes(costs(tables), SequenceBytes(10.0), bandwidth=1e12, launch=0.0, layers=3)
    assert CostModel.from_dict(found.to_dict()) == found
    old = {key: value for key, value in found.to_dict().items() if key not in ("basis", "remark")}
    assert CostModel.from_dict(old).basis == "estimated"
    assert CostModel.from_dict({**old, "predicted": None}).basis == "measured"
