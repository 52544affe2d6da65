"""A space from a file: what it means, and one clear line for what is wrong with it."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from autokv.config import TOVA, IntegerQuantization
from autokv.errors import SpaceError
from autokv.search_spaces import SearchSpace, load_space

GOOD = """
name: mine
stages:
  eviction:
    - method: none
    - method: [snapkv, tova]
      keep_ratio: {low: 0.2, high: 0.8, step: 0.2}
      recent_tokens: {low: 8, high: 64, log: true}
    - method: streaming_llm
      keep_ratio: [0.25, 0.5]
      sink_tokens: 8
  quantization:
    - method: integer
      key: {bits: [4, 8], axis: channel}
      value: {bits: 4, axis: token, group_size: [32, 64]}
literature:
  - name: streaming
    pipeline:
      eviction: {method: streaming_llm, keep_ratio: 0.5, sink_tokens: 8}
      quantization:
        method: integer
        key: {bits: 8, axis: channel}
        value: {bits: 4, axis: token, group_size: 32}
"""


def space(folder: Path, text: str = GOOD) -> SearchSpace:
    path = folder / "mine.yaml"
    path.write_text(dedent(text))
    return load_space(str(path))


def test_parameters_are_named_after_their_fields(tmp_path: Path) -> None:
    assert set(space(tmp_path).parameters) == {
        "eviction.method",
        "eviction.keep_ratio@snapkv",
        "eviction.keep_ratio@streaming_llm",
        "eviction.recent_tokens",
        "quantization.key.bits",
        "quantization.value.group_size",
    }


def test_a_point_sets_its_own_method_and_nothing_else(tmp_path: Path) -> None:
    config = space(tmp_path).to_config(
        {
            "eviction.method": "tova",
            "eviction.keep_ratio@snapkv": 0.4,
            "eviction.keep_ratio@streaming_llm": 0.25,
            "eviction.recent_tokens": 16,
            "quantization.key.bits": 8,
            "quantization.value.group_size": 32,
        }
    )
    eviction, quantization = config.pipeline.eviction, config.pipeline.quantization
    assert isinstance(eviction, TOVA)
    assert isinstance(quantization, IntegerQuantization)
    assert (eviction.method, eviction.keep_ratio, eviction.recent_tokens, eviction.sink_tokens) == ("tova", 0.4, 16, 4)
    assert (quantization.key.bits, quantization.value.bits, quantization.value.group_size) == (8, 4, 32)


def test_grid_lists_every_point(tmp_path: Path) -> None:
    finite = space(tmp_path, GOOD.replace("recent_tokens: {low: 8, high: 64, log: true}", "recent_tokens: [8, 16]"))
    digests = {finite.to_config(point).digest for point in finite.grid()}
    assert len(digests) == (1 + 2 * 4 * 2 + 2) * (2 * 2)


def test_a_setting_outside_is_refused_by_its_field(tmp_path: Path) -> None:
    with pytest.raises(SpaceError, match=r"mine.yaml: literature\[0\] \(streaming\).eviction.keep_ratio: 0.3 lies out"):
        space(tmp_path, GOOD.replace("keep_ratio: 0.5,", "keep_ratio: 0.3,"))
    with pytest.raises(SpaceError, match=r"eviction.sink_tokens: 4 lies outside"):
        space(tmp_path, GOOD.replace(", sink_tokens: 8}", "}"))
    with pytest.raises(SpaceError, match=r"quantization.method: 'fp8' lies outside"):
        space(tmp_path, GOOD[: GOOD.index("        method: integer")] + "        method: fp8\n")


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("method: [snapkv, tova]", "method: [snapkv, tovo]", r"mine.yaml: stages.eviction\[1\].*tovo"),
        ("method: [snapkv, tova]", "methods: [snapkv, tova]", r"stages.eviction\[1\].method: a method"),
        ("method: [snapkv, tova]", "method: [snapkv, streaming_llm]", r"eviction\[2\].method: .* twice"),
        ("recent_tokens:", "recent_token:", r"stages.eviction\[1\].recent_token: "),
        ("high: 0.8", "high: 1.8", r"stages.eviction\[1\].keep_ratio: .* 1"),
        ("high: 0.8", "high: 0.1", r"stages.eviction\[1\].keep_ratio: low 0.2 must be below high 0.1"),
        ("step: 0.2", "step: 0.25", r"keep_ratio: high 0.8 is not a whole number of steps"),
        ("step: 0.2", "step: 0", r"keep_ratio.step: "),
        ("step: 0.2", "stop: 0.2", r"keep_ratio.stop: "),
        ("low: 8, high", "low: 0, high", r"recent_tokens: a log range needs low > 0"),
        ("bits: [4, 8]", "bits: [4, 5]", r"stages.quantization\[0\].key.bits: "),
        ("bits: [4, 8]", "bits: [4, 4]", r"stages.quantization\[0\].key.bits\[1\]: 4 is listed twice"),
        ("bits: [4, 8]", "bits: []", r"stages.quantization\[0\].key.bits: has 0 choices"),
        ("bits: [4, 8]", "bits: [[4], 8]", r"key.bits\[0\]: a choice must be a single value"),
        ("bits: [4, 8]", "bits: null", r"stages.quantization\[0\].key.bits: "),
        ("bits: [4, 8]", "bits: .nan", r"key.bits: nan is not a finite number"),
        ("sink_tokens: 8\n  q", "1: 8\n  q", r"stages.eviction\[2\]\[1\]"),
        ("name: mine", "title: mine", r"mine.yaml: name: "),
        ("stages:", "stage:", r"mine.yaml: stage: there is no such field .*; did you mean stages\?"),
        ("  quantization:\n", "  quantisation:\n", r"mine.yaml: stages.quantisation: "),
        ("- name: streaming", "- nam: streaming", r"mine.yaml: literature\[0\].nam: .* did you mean name\?"),
        ("{low: 0.2", "{low: [0.2", r"mine.yaml: is neither JSON nor YAML"),
        ("sink_tokens: 8\n  q", "a-b: 8\n  q", r"stages.eviction\[2\]: 'a-b' is not a field"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, old: str, new: str, line: str) -> None:
    assert old in GOOD
    with pytest.raises(SpaceError, match=line) as caught:
        space(tmp_path, GOOD.replace(old, new))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"just words", b"\xff\xfe\x00", b"a: &a [*a]", b"%" * 20, b"x" * (1 << 21)]
)
def test_what_is_no_space_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "odd.yaml"
    path.write_bytes(content)
    with pytest.raises(SpaceError, match=r"odd\.yaml"):
        load_space(str(path))


def test_an_unknown_name_lists_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(SpaceError, match=r"no search space 'balance'; did you mean balanced\?"):
        load_space("balance")
    with pytest.raises(SpaceError, match="cannot be read"):
        load_space(str(tmp_path / "none.yaml"))


def test_yaml_cannot_run_code(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    with pytest.raises(SpaceError, match="is neither JSON nor YAML"):
        space(tmp_path, f"!!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path ['{marker}']]")
    assert not marker.exists()
