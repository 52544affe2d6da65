"""Names and phrases of configurations."""

from __future__ import annotations

import pytest

from autokv.config import BUILT_IN_EVICTIONS, CompressionConfig, EvictionStage
from autokv.report.describe import describe, explain

KIVI = {
    "method": "integer",
    "key": {"bits": 4, "axis": "channel", "group_size": 64},
    "value": {"bits": 2, "axis": "token", "group_size": 64},
    "residual_tokens": 128,
}


def config(**stages: object) -> CompressionConfig:
    return CompressionConfig.model_validate({"pipeline": stages})


@pytest.mark.parametrize(
    ("stages", "name"),
    [
        ({}, "16-bit cache"),
        (
            {
                "eviction": {"method": "snapkv", "keep_ratio": 0.4},
                "quantization": KIVI,
                "low_rank": {"method": "residual", "key_rank": 4, "value_rank": 4},
            },
            "SnapKV 40%, K4V2 g64, residual 128, GEAR r4",
        ),
        (
            {"eviction": {"method": "h2o", "keep_ratio": 0.125, "layer_budget": "pyramid", "head_budget": "adaptive"}},
            "H2O 12.5% pyramid adaptive",
        ),
        ({"eviction": {"method": "streaming_llm", "keep_tokens": 2048}}, "StreamingLLM 2,048 tokens"),
        ({"quantization": {"method": "fp8", "rotation": "hadamard"}}, "FP8 Hadamard"),
        ({"low_rank": {"method": "latent", "key_rank": 32, "value_rank": 0}}, "latent r32/0"),
        (
            {
                "quantization": {
                    "method": "integer",
                    "key": {"bits": 8, "axis": "token", "group_size": 32},
                    "value": {"bits": 8, "axis": "token", "group_size": 64},
                    "residual_tokens": 0,
                }
            },
            "K8V8 g32/64 key/token",
        ),
    ],
)
def test_short_names(stages: dict[str, object], name: str) -> None:
    assert describe(config(**stages)) == name


def test_every_eviction_method_has_a_name() -> None:
    titles = [stage.title for stage in BUILT_IN_EVICTIONS if issubclass(stage, EvictionStage)]
    assert all(titles)
    assert len(set(titles)) == len(titles) == 9


def test_a_phrase_names_every_stage() -> None:
    phrase = explain(
        config(
            eviction={"method": "snapkv", "keep_ratio": 0.4},
            quantization=KIVI,
            low_rank={"method": "residual", "key_rank": 4, "value_rank": 2},
        )
    )
    assert phrase == (
        "keeps 40% of the tokens (SnapKV), holds keys in 4 bits and values in 2 (the newest 128 tokens in 16) "
        "and corrects their error with factors of rank 4/2 (GEAR)"
    )
    assert explain(config()) == "holds the whole cache in 16 bits"
    tokens = {"method": "snapkv", "keep_tokens": 1024}
    assert explain(config(eviction=tokens)) == "keeps at most 1,024 tokens (SnapKV)"
