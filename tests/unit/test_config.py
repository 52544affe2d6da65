"""Configurations: what is accepted, what is refused and how the refusal reads."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autokv.config import CompressionConfig, ConfigurationDocument, check_fits, json_schema
from autokv.documents import MAX_BYTES
from autokv.errors import ConfigError

FULL: dict[str, Any] = {
    "schema_version": "autokv/v1",
    "pipeline": {
        "eviction": {
            "method": "snapkv",
            "keep_ratio": 0.4,
            "sink_tokens": 4,
            "recent_tokens": 64,
            "layer_budget": "pyramid",
            "head_budget": "adaptive",
            "options": {"window": 64, "kernel": 5},
        },
        "quantization": {
            "method": "integer",
            "key": {"bits": 4, "axis": "channel", "group_size": 64},
            "value": {"bits": 2, "axis": "token", "group_size": 64},
            "rotation": "none",
            "residual_tokens": 128,
        },
        "low_rank": {"method": "residual", "key_rank": 4, "value_rank": 4},
    },
}


def changed(path: str, value: object) -> dict[str, Any]:
    """``FULL`` with the field at ``path`` set, or deleted where ``value`` is ``None``."""
    document: dict[str, Any] = json.loads(json.dumps(FULL))
    *parents, last = path.split(".")
    here = document
    for parent in parents:
        here = here[parent]
    if value is None:
        del here[last]
    else:
        here[last] = value
    return document


def test_the_digest_is_the_sha256_of_the_sorted_compact_pipeline() -> None:
    expected = json.dumps(FULL["pipeline"], sort_keys=True, separators=(",", ":"))
    assert CompressionConfig.parse(FULL).digest == hashlib.sha256(expected.encode()).hexdigest()


@given(st.randoms())
def test_the_digest_ignores_order_and_spelled_out_defaults(random: Any) -> None:  # noqa: ANN401
    def shuffle(node: object) -> object:
        if not isinstance(node, dict):
            return node
        items = list(node.items())
        random.shuffle(items)
        return {key: shuffle(value) for key, value in items}

    shuffled = shuffle(FULL)
    assert isinstance(shuffled, dict)
    if random.random() < 0.5:  # 4 sink tokens are the default
        del shuffled["pipeline"]["eviction"]["sink_tokens"]
    assert CompressionConfig.parse(shuffled).digest == CompressionConfig.parse(FULL).digest


def test_every_difference_changes_the_digest() -> None:
    variants = [
        FULL,
        {},
        changed("pipeline.eviction.keep_ratio", 0.41),
        changed("pipeline.eviction.options.window", 32),
        changed("pipeline.quantization.value.bits", 3),
        changed("pipeline.low_rank.method", "latent"),
    ]
    assert len({CompressionConfig.parse(variant).digest for variant in variants}) == len(variants)


def test_a_configuration_survives_json() -> None:
    config = CompressionConfig.parse(FULL)
    assert CompressionConfig.parse(json.loads(config.model_dump_json())) == config


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        ("schema_version", "autokv/v9", "schema_version"),
        ("pipeline.eviction.method", "oracle", "pipeline.eviction.method"),
        ("pipeline.eviction.keep_ratio", 0, "pipeline.eviction.keep_ratio"),
        ("pipeline.eviction.keep_ratio", 1.5, "pipeline.eviction.keep_ratio"),
        ("pipeline.eviction.keep_ratio", float("nan"), "pipeline.eviction.keep_ratio"),
        ("pipeline.eviction.keep_ratio", None, "pipeline.eviction"),
        ("pipeline.eviction.keep_tokens", 64, "pipeline.eviction"),
        ("pipeline.eviction.sink_tokens", -1, "pipeline.eviction.sink_tokens"),
        ("pipeline.eviction.options.kernel", 4, "pipeline.eviction.options"),
        ("pipeline.eviction.options.windw", 4, "pipeline.eviction.options.windw"),
        ("pipeline.quantization.key.bits", 5, "pipeline.quantization.key.bits"),
        ("pipeline.quantization.key.axis", "head", "pipeline.quantization.key.axis"),
        ("pipeline.quantization.key.group_size", 48, "pipeline.quantization.key.group_size"),
        ("pipeline.low_rank.key_rank", -1, "pipeline.low_rank.key_rank"),
        ("pipeline.merging", {"method": "cam"}, "pipeline.merging"),
    ],
)
def test_a_refusal_names_the_field(path: str, value: object, field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        CompressionConfig.parse(changed(path, value), where="a.json")
    assert caught.value.field == f"a.json: {field}"
    assert "\n" not in str(caught.value)
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("pipeline", "says"),
    [
        ({"low_rank": {"method": "residual", "key_rank": 2, "value_rank": 2}}, "quantization.method is 'none'"),
        ({"low_rank": {"method": "latent", "key_rank": 0, "value_rank": 0}}, "both 0"),
        ({"eviction": {"method": "streaming_llm", "keep_ratio": 0.5, "head_budget": "adaptive"}}, "uniform"),
    ],
)
def test_stages_that_contradict_each_other_are_refused(pipeline: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        CompressionConfig.parse({"pipeline": pipeline})


@pytest.mark.parametrize(
    ("path", "value", "head_dim", "context", "field"),
    [
        ("pipeline.eviction.keep_ratio", 0.05, 64, 1024, "pipeline.eviction.keep_ratio"),
        ("pipeline.eviction.options.window", 900, 64, 1024, "pipeline.eviction.keep_ratio"),
        ("pipeline.low_rank.key_rank", 80, 64, 1024, "pipeline.low_rank.key_rank"),
        ("pipeline.quantization.value.group_size", 128, 64, 1024, "pipeline.quantization.value.group_size"),
        ("pipeline.quantization.value.group_size", 64, 80, 1024, "pipeline.quantization.value.group_size"),
    ],
)
def test_what_does_not_fit_the_shape_is_refused(
    path: str, value: object, head_dim: int, context: int, field: str
) -> None:
    config = CompressionConfig.parse(changed(path, value))
    with pytest.raises(ConfigError) as caught:
        check_fits(config, head_dim=head_dim, context_tokens=context)
    assert caught.value.field == field


def test_what_fits_the_shape_is_accepted() -> None:
    check_fits(CompressionConfig.parse(FULL), head_dim=128, context_tokens=1024)
    check_fits(CompressionConfig(), head_dim=40, context_tokens=1)


def test_the_schema_accepts_what_the_parser_accepts() -> None:
    validator = jsonschema.Draft202012Validator(json_schema())
    validator.check_schema(json_schema())
    assert validator.is_valid(FULL)
    assert validator.is_valid({**FULL, "provenance": {"seed": 1}})
    assert not validator.is_valid(changed("pipeline.quantization.key.bits", 5))
    assert not validator.is_valid({**FULL, "surprise": 1})


def test_a_document_carries_facts_that_do_not_change_the_digest(tmp_path: Path) -> None:
    document = ConfigurationDocument.parse(
        {**FULL, "model": {"name": "m"}, "measured": {"kl_divergence": {"mean": 0.1}}}
    )
    assert document.digest == document.config().digest == CompressionConfig.parse(FULL).digest
    path = tmp_path / "recommended.json"
    path.write_text(document.model_dump_json(), encoding="utf-8")
    assert ConfigurationDocument.load(path) == document


@pytest.mark.parametrize("content", [b"", b"{", b"\x00\x01", b"[]", b"[" * 100_000, b" " * (MAX_BYTES + 1)])
def test_a_file_that_is_no_configuration_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.json"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        CompressionConfig.load(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        CompressionConfig.load(tmp_path / "nowhere.json")
