"""Which contexts a run evaluates."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from autokv.jobs.plan import make_plan
from autokv.models import load
from autokv.tuning.request import TuningRequest

LONGROPE = {
    "original_max_position_embeddings": 32,
    "rope_parameters": {
        "rope_type": "longrope",
        "rope_theta": 10_000.0,
        "partial_rotary_factor": 1.0,
        "short_factor": [1.0] * 8,
        "long_factor": [7.0] * 8,
    },
    "partial_rotary_factor": 1.0,
}


@pytest.mark.parametrize(("asked", "planned"), [(20, 20), (24, 24), (25, 24), (32, 24), (33, 33)])
def test_no_continuation_crosses_the_switch_of_longrope(
    asked: int, planned: int, tiny_model_folder: Callable[..., Path]
) -> None:
    model = load(str(tiny_model_folder("phi3", **LONGROPE)), dtype="float32", device="cpu")
    request = TuningRequest(model="phi3", context_tokens=asked, continuation_tokens=8)
    plan = make_plan(request, model, None, 60.0)
    assert {*plan.calibration, *plan.validation} == {planned}
