"""Costs of a made-up device, simple enough to be added up by hand."""

from __future__ import annotations

import pytest

from autokv.serving import CostModel, Curve, Grid, SequenceBytes


@pytest.fixture
def costs() -> CostModel:
    """An iteration takes 10 ms and 0.1 ms per token; decoding 0.1 µs per token held on top, and so on."""
    return CostModel(
        rest=Curve((1, 1001), (0.0101, 0.1101)),
        prefill_attention=Curve((1, 100, 1000), (0.0, 0.001, 0.1)),
        compress=Curve((1, 1001), (0.001, 0.011)),
        decode_attention=Grid((1, 2), (Curve((0, 1000), (0.0, 0.0001)), Curve((0, 1000), (0.0, 0.0002)))),
        sequence=SequenceBytes(100.0),
    )
