"""Documents of people: JSON and YAML read alike, and what is wrong with one told with what was meant."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from autokv.config import CompressionConfig, ConfigurationDocument
from autokv.documents import parse_document, read_document
from autokv.errors import ConfigError, InputError, RequestError, nearest
from autokv.search_spaces import load_space
from autokv.tuning.request import TuningRequest

PIPELINE: dict[str, Any] = {
    "eviction": {"method": "snapkv", "keep_ratio": 0.5, "options": {"window": 32}},
    "quantization": {
        "method": "integer",
        "key": {"bits": 4, "axis": "channel", "group_size": 64},
        "value": {"bits": 2, "axis": "token", "group_size": 64},
    },
}


@pytest.mark.parametrize("spell", [json.dumps, lambda document: json.dumps(document, indent="\t"), yaml.safe_dump])
@pytest.mark.parametrize("suffix", ["json", "yaml", "txt"])
def test_a_configuration_reads_the_same_in_every_spelling(tmp_path: Path, spell: Any, suffix: str) -> None:  # noqa: ANN401
    document = {"schema_version": "autokv/v1", "pipeline": PIPELINE, "measured": {"kl_divergence": {"mean": 1e-5}}}
    path = tmp_path / f"c.{suffix}"
    path.write_bytes(b"\xef\xbb\xbf" + spell(document).encode())
    found = ConfigurationDocument.load(path)
    assert found.config() == CompressionConfig.parse({"pipeline": PIPELINE})
    assert found.measured == {"kl_divergence": {"mean": 1e-5}}


def test_small_numbers_of_json_stay_numbers() -> None:
    # YAML 1.1 alone would read a text.
    assert parse_document(b'{"x": 1e-5}', "d", error=RequestError, remedy="") == {"x": 1e-5}


@pytest.mark.parametrize("content", [b"{", b"a: [", b"\xff\xfe", b"[" * 100_000, b"{" * 100_000, b"a: b: c", b"\0"])
def test_what_is_neither_is_one_short_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "d.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="is neither JSON nor YAML") as caught:
        read_document(path, error=ConfigError, remedy="do this")
    assert str(caught.value).endswith("do this")
    assert len(str(caught.value)) < 400


def test_broken_json_is_told_as_json(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="line 3 column 2"):
        parse_document(b'{"a": 1,\n "b": 2\n "c": 3}', "d", error=ConfigError, remedy="")


def test_aliases_are_refused_where_a_document_comes_from_outside() -> None:
    bomb = b"a: &a [1, 2]\nb: [*a, *a]\n"
    assert parse_document(bomb, "d", error=RequestError, remedy="") == {"a": [1, 2], "b": [[1, 2], [1, 2]]}
    with pytest.raises(RequestError, match="aliases"):
        parse_document(bomb, "d", error=RequestError, remedy="", aliases=False)


@pytest.mark.parametrize("path", ["nowhere.json", ".", "a\0b"])
def test_what_cannot_be_opened_is_refused(path: str) -> None:
    with pytest.raises(InputError):
        read_document(path, error=InputError, remedy="")


def changed(at: str, value: object, name: str | None = None) -> dict[str, Any]:
    """``PIPELINE`` with the field at ``at`` set, or renamed to ``name``."""
    document = {"pipeline": json.loads(json.dumps(PIPELINE))}
    *parents, last = at.split(".")
    here: Any = document
    for parent in parents:
        here = here[parent]
    if name is None:
        here[last] = value
    else:
        here[name] = here.pop(last)
    return document


@pytest.mark.parametrize(
    ("document", "field", "meant"),
    [
        (changed("pipeline.eviction.method", "snapvk"), "pipeline.eviction.method", "did you mean snapkv?"),
        (changed("pipeline.eviction.method", "oracle"), "pipeline.eviction.method", "choose from none, streaming_llm"),
        (changed("pipeline.eviction.keep_ratio", 0, "keep_ration"), "pipeline.eviction.keep_ration", "mean keep_ratio"),
        (changed("pipeline.eviction.options.window", 0, "windw"), "pipeline.eviction.options.windw", "window?"),
        (changed("pipeline.quantization.key.axis", "chanel"), "pipeline.quantization.key.axis", "mean channel?"),
        (changed("pipeline.quantization.key.group_size", 0, "groupsize"), "key.groupsize", "mean group_size?"),
        (changed("pipeline.quantization", 0, "quantisation"), "pipeline.quantisation", "mean quantization?"),
        ({"pipelin": PIPELINE}, "pipelin", "did you mean pipeline?"),
        (changed("pipeline.quantization.key.bits", 5), "pipeline.quantization.key.bits", "autokv config schema"),
    ],
)
def test_a_mistyped_name_in_a_configuration_is_told_with_what_was_meant(
    document: dict[str, Any], field: str, meant: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        CompressionConfig.parse(document)
    assert str(caught.value.field).endswith(field)
    assert meant in str(caught.value.remedy)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"modle": "m"}, "modle: there is no such field (and 1 more); did you mean model?"),
        ({"model": "m", "maximum": {}}, "did you mean maximums or minimums?"),
        ({"model": "m", "sampler": "tep"}, "did you mean tpe?"),
        ({"model": "m", "dtype": "bfloat"}, "did you mean bfloat16"),
        (
            {"model": "m", "objectives": ["kl_divergance"]},
            "unknown metric 'kl_divergance'; did you mean kl_divergence?",
        ),
        ({"model": "m", "max": {"beauty": 1}}, "unknown metric 'beauty'; choose from kl_divergence"),
        ({"model": "m", "rate": 2}, "rate is about serving a trace; add a workload"),
        ({"model": "m", "objectives": [1]}, "objectives[0]: "),
    ],
)
def test_a_mistyped_name_in_a_request_is_told_with_what_was_meant(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(RequestError) as caught:
        TuningRequest.parse(fields)
    assert says in str(caught.value)


def test_spaces_and_names_of_any_spelling_have_neighbours() -> None:
    with pytest.raises(InputError, match=r"did you mean quantization-only"):
        load_space("quantisation_only")
    assert nearest("KL-Divergence", ["kl_divergence"]) == "did you mean kl_divergence?"
    assert nearest("zzz", ["kl_divergence"]) is None
    assert nearest("x" * 1_000_000, ["kl_divergence"]) is None
