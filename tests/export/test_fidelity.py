"""What targets hold: every difference is told, and nothing else; what is held is held exactly."""

from __future__ import annotations

import json

import pytest

from autokv.config import CompressionConfig, EvictionStage, NoStage
from autokv.export import PARTS, TARGETS, Target
from autokv.models.facts import ModelFacts

EVERY = pytest.mark.parametrize("target", TARGETS.values(), ids=list(TARGETS))


def parts(config: CompressionConfig) -> dict[str, str]:
    """The compared parts from the JSON of a configuration, spelled out without the code under test."""
    pipeline = config.pipeline.model_dump(mode="json")
    pipeline.setdefault("write", {"rule": "after_prefill"})
    stage = pipeline["quantization"]
    own_format = stage["method"] == "format"
    sides = {}
    for side in ("key", "value"):
        form = stage.get(side)
        if form is not None and not own_format:
            form = {"format": "integer", **form, "rotation": stage["rotation"]}
        if stage["method"] == "fp8":
            form = {"format": "fp8 of AutoKV", "rotation": stage["rotation"]}
        sides[f"quantization.{side}"] = form
    found = {
        "eviction": pipeline["eviction"],
        **sides,
        "quantization.layers": stage.get("layers", []),
        "quantization.residual_tokens": stage.get("residual_tokens", 0),
        "low_rank": pipeline["low_rank"],
        "write": pipeline["write"],
    }
    return {name: json.dumps(value, sort_keys=True) for name, value in found.items()}


@EVERY
@pytest.mark.parametrize("known", [True, False], ids=["model", "no model"])
def test_every_part_that_differs_is_named_and_no_other(
    target: Target, known: bool, configs: list[CompressionConfig], facts: ModelFacts
) -> None:
    levels = set()
    for config in configs:
        fidelity = target.hold(config, facts if known else None)
        asked, held = parts(config), parts(fidelity.held)
        assert {change.stage for change in fidelity.changes} == {name for name in PARTS if asked[name] != held[name]}
        assert all(change.why and change.asked and change.held for change in fidelity.changes)
        assert all(change.asked != change.held for change in fidelity.changes), (config, fidelity)
        levels.add(fidelity.level)
        assert (fidelity.level == "exact") == (asked == held)
        if fidelity.level == "exact" and target.name != "autokv":  # whose kernels hold the format "integer" as a stage
            assert fidelity.held == config
        before, after = config.pipeline, fidelity.held.pipeline
        evicts = isinstance(before.eviction, EvictionStage) and before.eviction.evicts
        lost = [
            evicts and isinstance(after.eviction, NoStage),
            before.quantization.method != "none" == after.quantization.method,
            before.low_rank.method != "none" == after.low_rank.method,
        ]
        assert (fidelity.level == "not_expressible") == any(lost)
    assert levels >= ({"exact", "nearest"} if target.name == "autokv" else {"exact", "not_expressible"})


@EVERY
def test_what_is_held_is_held_exactly(target: Target, configs: list[CompressionConfig], facts: ModelFacts) -> None:
    for config in configs:
        held = target.hold(config, facts).held
        again = target.hold(held, facts)
        assert again.level == "exact", (held, again.changes)
        assert again.held == held


@EVERY
def test_options_are_read_back_as_what_is_held(
    target: Target, configs: list[CompressionConfig], facts: ModelFacts
) -> None:
    read_back = 0
    for config in configs:
        held = target.hold(config, facts).held
        if '"scale":' in held.canonical_json and has_given_scales(held):
            continue
        arguments = target.arguments(held, facts)
        if held.pipeline.quantization.method != "none" or held.pipeline.eviction.method != "none":
            assert spelled(target.parse(arguments)) == spelled(held), arguments
            read_back += 1
    assert read_back >= 10


def spelled(config: CompressionConfig) -> str:
    """Its JSON; for heads of 64 channels, llama.cpp's rotation of 64 channels is its usual one."""
    return config.canonical_json.replace('"rotation_channels":64', '"rotation_channels":null')


def has_given_scales(config: CompressionConfig) -> bool:
    """Whether the scales are a checkpoint's, which no option says."""
    stage = config.pipeline.quantization.model_dump(mode="json")
    forms = [stage[side] for side in ("key", "value") if side in stage]
    forms += [entry[side] for entry in stage.get("layers", []) for side in ("key", "value")]
    return any(form.get("scale") not in (None, 1.0) for form in forms)


@EVERY
def test_artifacts_are_written_for_everything_held(
    target: Target, configs: list[CompressionConfig], facts: ModelFacts
) -> None:
    for config in configs[:60]:
        for artifact in target.render(target.hold(config, facts).held, facts, "org/small"):
            assert artifact.name
            assert artifact.text.endswith("\n")


@EVERY
def test_an_uncompressed_cache_is_exact_everywhere(target: Target) -> None:
    for document in ({}, {"pipeline": {"write": "on_write"}}):
        config = CompressionConfig.parse(document)
        assert target.hold(config).level == "exact"


def test_nearest_is_by_bits(facts: ModelFacts) -> None:
    def kept(target: str, bits: int) -> list[str]:
        side = {"bits": bits, "axis": "token", "group_size": 32}
        stage = {"method": "integer", "key": side, "value": side, "residual_tokens": 0}
        config = CompressionConfig.parse({"pipeline": {"quantization": stage}})
        return TARGETS[target].arguments(TARGETS[target].hold(config, facts).held, facts)

    assert kept("vllm", 8) == ["--kv-cache-dtype", "int8_per_token_head"]
    assert kept("vllm", 4)[1] in ("turboquant_4bit_nc", "int4_per_token_head", "nvfp4")
    assert kept("llama.cpp", 8)[1] == "q8_0"
    assert kept("ollama", 2) == ["OLLAMA_KV_CACHE_TYPE=q4_0", "OLLAMA_FLASH_ATTENTION=1"]
    assert kept("openvino", 4)[0] == "KEY_CACHE_PRECISION=u4"
    assert kept("mlx-lm", 3)[:4] == ["--kv-bits", "3", "--kv-group-size", "32"]
