"""Evictions by a number of tokens: what is accepted, and that nothing changes for what was stored before."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from autokv.config import CompressionConfig, check_fits, json_schema
from autokv.errors import ConfigError

BEFORE: list[tuple[dict[str, Any], str]] = [
    (
        {"eviction": {"method": "streaming_llm", "keep_ratio": 0.5}},
        "eea54e9f162b44b6bc12ff8b6b82c521cf6b104d2e9b3ea4a54653b66df6efcc",
    ),
    (
        {"eviction": {"method": "keydiff", "keep_ratio": 0.5}},
        "4f5b938cc57bf3811d887aca2fac51d0e688e24882212ffbe02f4a279f29aca9",
    ),
    (
        {"eviction": {"method": "snapkv", "keep_ratio": 0.3}},
        "b0d8ddb35a793c936795cebde026c88680f5239db7a60e6bd3a530e7272a5546",
    ),
    (
        {"eviction": {"method": "snapkv", "keep_ratio": 0.2, "layer_budget": "pyramid"}},
        "d19ef1b36d07cddc2658287defbed8b96273bb08d87a311cc9acb5d3f7805379",
    ),
    (
        {"eviction": {"method": "tova", "keep_ratio": 0.5}},
        "ff614785711e35eb2c936b5f7f9de73b32eff85cf50789b468a74ef7492c8872",
    ),
    (
        {"eviction": {"method": "h2o", "keep_ratio": 0.5}},
        "952b78ac78d57b18c1d3d575671607ad8f9cce2084176cd6534eb140b8e9239f",
    ),
    (
        {"eviction": {"method": "expected_attention", "keep_ratio": 0.5}},
        "24d3daf55376a842d864fb1873b2b4daea358a95c9d591f7f608b86efc1bc49b",
    ),
    (
        {"eviction": {"method": "lagkv", "keep_ratio": 0.5}},
        "d9787b406a20cbf22304776423160e2146d5ce52a8c21169ac7125a7b101f2d9",
    ),
    (
        {
            "eviction": {"method": "snapkv", "keep_ratio": 0.2, "head_budget": "adaptive"},
            "quantization": {
                "method": "integer",
                "key": {"bits": 4, "axis": "channel", "group_size": 32},
                "value": {"bits": 4, "axis": "token", "group_size": 32},
                "rotation": "none",
                "residual_tokens": 128,
            },
        },
        "0aafaf8105e39a73c18f56ac6b7ff213daeb6515f11b0ee5e05532dc7989a5d8",
    ),
]
"""Pipelines and their digests as the releases without ``keep_tokens`` made them."""
TOKENS = {"method": "snapkv", "keep_tokens": 256}


def parse(eviction: dict[str, Any]) -> CompressionConfig:
    return CompressionConfig.parse({"pipeline": {"eviction": eviction}})


@pytest.mark.parametrize(("pipeline", "digest"), BEFORE, ids=lambda value: value[:8] if isinstance(value, str) else "")
def test_what_was_stored_before_has_the_digest_that_it_had(pipeline: dict[str, Any], digest: str) -> None:
    config = CompressionConfig.parse({"pipeline": pipeline})
    assert config.digest == digest
    assert "keep_tokens" not in config.model_dump_json()
    assert CompressionConfig.parse(json.loads(config.model_dump_json())) == config


def test_a_budget_in_tokens_survives_json_and_has_a_digest_of_its_own() -> None:
    config = parse(TOKENS)
    assert "keep_ratio" not in config.canonical_json
    assert CompressionConfig.parse(json.loads(config.model_dump_json())).digest == config.digest
    assert (
        len({config.digest, parse({**TOKENS, "keep_tokens": 257}).digest, parse(BEFORE[2][0]["eviction"]).digest}) == 3
    )


@pytest.mark.parametrize(
    ("fields", "accepted"),
    [
        ({"keep_tokens": 256}, True),
        ({"keep_ratio": 0.5}, True),
        ({"keep_ratio": 1}, True),
        ({"keep_ratio": 0.5, "keep_tokens": None}, True),
        ({"keep_ratio": None, "keep_tokens": 256}, True),
        ({}, False),
        ({"keep_ratio": None}, False),
        ({"keep_ratio": 0.5, "keep_tokens": 256}, False),
        ({"keep_tokens": 0}, False),
        ({"keep_tokens": 2.5}, False),
    ],
)
def test_exactly_one_budget_is_taken_by_parser_and_schema(fields: dict[str, Any], accepted: bool) -> None:
    eviction = {"method": "snapkv", **fields}
    schema = jsonschema.Draft202012Validator(json_schema())
    assert schema.is_valid({"pipeline": {"eviction": eviction}}) is accepted
    if accepted:
        parse(eviction)
        return
    with pytest.raises(ConfigError) as caught:
        parse(eviction)
    assert str(caught.value.field).startswith("pipeline.eviction")


def test_fewer_tokens_than_always_stay_are_refused_whatever_the_context() -> None:
    config = parse({**TOKENS, "keep_tokens": 67})
    for context in (50, 5000):
        with pytest.raises(ConfigError, match="keeps 67 tokens, fewer than the 4 sink and 64 recent") as caught:
            check_fits(config, head_dim=64, context_tokens=context)
        assert caught.value.field == "pipeline.eviction.keep_tokens"
        assert "raise keep_tokens" in str(caught.value.remedy)
        # A context that is shorter than the budget is held whole.
        check_fits(parse(TOKENS), head_dim=64, context_tokens=context)
