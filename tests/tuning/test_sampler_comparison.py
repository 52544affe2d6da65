"""The benchmark of samplers, on a synthetic table: TPE with the literature beats random search on every seed."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from autokv.config import CompressionConfig
from autokv.errors import AutoKVError
from autokv.evaluation.measurement import Measurement
from autokv.search_spaces import SearchSpace, load_space

Evaluate = Callable[[Sequence[CompressionConfig]], list[Measurement | AutoKVError]]
FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def benchmark() -> Iterator[ModuleType]:
    sys.path.insert(0, str(FOLDER))
    spec = importlib.util.spec_from_file_location("sampler_comparison", FOLDER / "sampler_comparison.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.path.remove(str(FOLDER))


@pytest.fixture(scope="module")
def space(benchmark: ModuleType) -> SearchSpace:
    return load_space(str(benchmark.SPACE)).fitted(64)


def rows(benchmark: ModuleType, space: SearchSpace, analytic: Evaluate) -> dict[str, dict[str, Any]]:
    configs = benchmark.every_config(space)
    results = zip(configs.items(), analytic(list(configs.values())), strict=True)
    return {digest: benchmark.row_of(space, config, result) for (digest, config), result in results}


def test_tpe_with_the_literature_dominates_random(
    benchmark: ModuleType, space: SearchSpace, analytic: Evaluate
) -> None:
    result = benchmark.compare(
        space, rows(benchmark, space, analytic), contenders=["random", "tpe+literature"], seeds=5
    )
    tpe, random = (result["samplers"][name] for name in ("tpe+literature", "random"))
    assert tpe["wins_over_random"] == 5
    assert tpe["hypervolume"]["60"]["p50"] > random["hypervolume"]["60"]["p50"] + 0.02
    assert all(0 < share <= 1 for one in (tpe, random) for share in one["final_by_seed"])
    assert [len(one["median_curve"]) for one in (tpe, random)] == [60, 60]


def test_a_table_is_read_as_it_was_written(
    benchmark: ModuleType, space: SearchSpace, analytic: Evaluate, tmp_path: Path
) -> None:
    table = tmp_path / "table.jsonl"
    some = list(rows(benchmark, space, analytic).values())[:20]
    some[3] = {"digest": some[3]["digest"], "params": some[3]["params"], "error": "too hot"}
    benchmark.append(table, [{"settings": {"head_dim": 64}}])
    benchmark.append(table, some[:10])
    benchmark.append(table, some[10:])
    assert list(benchmark.read_rows(table).values()) == [json.loads(json.dumps(row)) for row in some]
    for row in some[:3]:
        again = benchmark.measurement_of(space, row)
        assert again.config.digest == row["digest"]
        assert {name: again.value(name) for name in row["metrics"]} == row["metrics"]


def test_what_the_table_lacks_fails_and_the_comparison_goes_on(
    benchmark: ModuleType, space: SearchSpace, analytic: Evaluate
) -> None:
    half = dict(list(rows(benchmark, space, analytic).items())[::2])
    result = benchmark.compare(space, half, contenders=["random"], seeds=1, trials=20)
    assert result["configurations"] == len(half)
    assert 0 < result["samplers"]["random"]["final_by_seed"][0] < 1
