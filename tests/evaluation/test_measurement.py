"""Statistics of samples; a compression ratio is one of sizes, not a mean of ratios."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autokv.config import CompressionConfig
from autokv.evaluation.measurement import Measurement

SIZES = st.lists(st.tuples(st.floats(100, 1e5), st.floats(1, 50)), min_size=1, max_size=6)


@given(SIZES)
def test_a_compression_ratio_agrees_with_the_bytes_beside_it(sizes: list[tuple[float, float]]) -> None:
    full = [held * ratio for held, ratio in sizes]
    rows = [
        {"id": str(place), "kv_bytes_per_token": held, "compression_ratio": ratio}
        for place, (held, ratio) in enumerate(sizes)
    ]
    found = Measurement.of_samples(CompressionConfig(), [*rows, {"id": "task", "task_score": 1.0}])
    whole = Measurement.of_samples(CompressionConfig(), [{"kv_bytes_per_token": one} for one in full])
    headline = whole.value("kv_bytes_per_token") / found.value("kv_bytes_per_token")
    assert found.value("compression_ratio") == pytest.approx(headline)
    assert found.metrics["compression_ratio"].worst == min(ratio for _, ratio in sizes)


def test_a_ratio_without_its_bytes_keeps_its_mean() -> None:
    rows = [{"compression_ratio": ratio} for ratio in (2.0, 4.0)]
    assert Measurement.of_samples(CompressionConfig(), rows).value("compression_ratio") == 3.0
