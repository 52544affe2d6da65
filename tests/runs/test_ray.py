"""The executor that spreads a batch over devices, with two actors on the CPU."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from autokv.config import CompressionConfig
from autokv.errors import AutoKVError
from autokv.evaluation.costs import MemoryCache
from autokv.evaluation.measurement import Measurement
from autokv.runs.listener import Stop
from autokv.runs.preparing import PreparedRun, prepare_run
from autokv.runs.searching import local_executor
from autokv.tuning.request import TuningRequest

ray = pytest.importorskip("ray")

from autokv.runs.executors.ray_actors import RayExecutor  # noqa: E402 - skipped without Ray

STOP = Stop(threading.Event())
CONFIGS = [
    CompressionConfig.parse(
        {
            "pipeline": {
                "quantization": {
                    "method": "integer",
                    "key": {"bits": bits, "axis": "token", "group_size": 16},
                    "value": {"bits": bits, "axis": "token", "group_size": 16},
                }
            }
        }
    )
    for bits in (8, 4, 2)
]
IMPOSSIBLE = CompressionConfig.parse({"pipeline": {"eviction": {"method": "knorm", "keep_ratio": 0.1}}})
"""The tokens that always stay are more than that."""


class Told(list[str]):
    """A listener that remembers."""

    def say(self, text: str) -> None:
        self.append(text)

    def trial(self, record: object) -> None: ...

    def batch(self, progress: object) -> None: ...


@pytest.fixture(scope="module")
def prepared(tiny_model_folder: Callable[..., Path]) -> PreparedRun:
    fields = {"samples": 2, "validation_samples": 2, "context_tokens": 64, "continuation_tokens": 8}
    request = TuningRequest(model=str(tiny_model_folder("llama")), device="cpu", **fields)
    return prepare_run(request, MemoryCache(), Told(), STOP)


@pytest.fixture(scope="module")
def told() -> Told:
    return Told()


@pytest.fixture(scope="module")
def executor(prepared: PreparedRun, told: Told) -> Iterator[RayExecutor]:
    before = signal.getsignal(signal.SIGTERM)
    opened = RayExecutor(prepared, told, STOP, devices=2)
    assert signal.getsignal(signal.SIGTERM) == before
    yield opened
    opened.close()
    opened.close()


def quality(results: list[Measurement | AutoKVError]) -> list[Any]:
    """What does not depend on the clock."""
    measured = [one for one in results if isinstance(one, Measurement)]
    assert len(measured) == len(results)
    return [
        (one.config, one.value("kv_bytes_per_token"), pytest.approx(one.value("kl_divergence"), rel=1e-4))
        for one in measured
    ]


def test_a_batch_is_judged_as_in_one_process_and_in_its_order(prepared: PreparedRun, executor: RayExecutor) -> None:
    local = local_executor(prepared, Told(), STOP)
    assert quality(executor.calibrate(CONFIGS)) == quality(local.calibrate(CONFIGS))
    assert quality(executor.validate(CONFIGS)) == quality(local.validate(CONFIGS))
    assert quality(executor.validate(CONFIGS[:1])) == quality(local.validate(CONFIGS[:1]))


def test_what_cannot_be_judged_has_its_error_in_its_place(executor: RayExecutor) -> None:
    first, second, third = executor.calibrate([CONFIGS[0], IMPOSSIBLE, CONFIGS[2]])
    assert isinstance(second, AutoKVError)
    assert isinstance(first, Measurement)
    assert isinstance(third, Measurement)
    assert (first.config, third.config) == (CONFIGS[0], CONFIGS[2])


def test_the_share_of_an_actor_that_dies_is_judged_again(executor: RayExecutor, told: Told) -> None:
    expected = executor.calibrate(CONFIGS)
    os.kill(ray.get(executor.actors[1].process.remote()), signal.SIGKILL)
    assert quality(executor.calibrate(CONFIGS)) == quality(expected)
    assert told == ["device 1 was lost; what it was judging is judged again"]
