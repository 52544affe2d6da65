"""Tokens compressed as they are written, against a model of transformers whose attention rounds what it reads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
from transformers import AttentionInterface, AutoModelForCausalLM, QuantizedCache

from autokv import CompressedCache, CompressionConfig
from autokv.config import json_schema
from autokv.errors import ConfigError
from autokv.evaluation import Prompt
from autokv.evaluation.candidate import apply
from autokv.evaluation.continuation import FullContext, continuation_logits, greedy
from autokv.evaluation.evaluator import Evaluator, needs_of
from autokv.evaluation.measurement import Measurement
from autokv.evaluation.snapshot import Snapshot, take_snapshot
from autokv.formats import FORMATS, KVFormat
from autokv.kernels import backend
from autokv.models import LoadedModel, load
from autokv.runtime.attention import install

CONTEXT, CONTINUATION = 80, 24
MADE = torch.randint(0, 256, (CONTEXT + CONTINUATION,), generator=torch.Generator().manual_seed(3)).tolist()
PROMPT = Prompt("p", "text", tuple(MADE[:CONTEXT]), tuple(MADE[CONTEXT:]))
PAIRS = [
    ("int8_per_token_head", "int8_per_token_head"),
    ("q4_0", "q8_0"),
    ("fp8_e4m3", "openvino_u4"),
    ("mxfp4", "f16"),
]


def formats(key: str, value: str, *, write: object = "on_write", **more: object) -> CompressionConfig:
    stage = {"method": "format", "key": {"format": key}, "value": {"format": value}, **more}
    return CompressionConfig.parse({"pipeline": {"quantization": stage, "write": write}})


@pytest.fixture(scope="module")
def folder(tiny_model_folder: Callable[..., Path]) -> Path:
    return tiny_model_folder("llama", hidden_size=256, head_dim=64, num_attention_heads=4, num_key_value_heads=2)


@pytest.fixture(scope="module")
def model(folder: Path) -> LoadedModel:
    loaded = load(str(folder), dtype="float32", device="cpu")
    install(loaded.model)
    return loaded


@pytest.fixture(scope="module")
def snapshot(model: LoadedModel) -> Snapshot:
    return take_snapshot(model, PROMPT, needs_of([]), backend(model.device))


def rounding(folder: Path, of_layer: Callable[[int], tuple[KVFormat, KVFormat]]) -> torch.Tensor:
    """Logits of the continuation from a model that rounds every key and value before anything attends to it."""

    def attention(
        module: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        mask: torch.Tensor | None,
        **_: object,
    ) -> tuple[torch.Tensor, None]:
        form_k, form_v = of_layer(int(module.layer_idx))  # type: ignore[arg-type]
        groups = query.shape[1] // key.shape[1]
        key, value = (
            form.round_trip(side).repeat_interleave(groups, 1) for form, side in ((form_k, key), (form_v, value))
        )
        query = form_k.query_round_trip(query)
        scores = query @ key.mT * query.shape[-1] ** -0.5
        scores = scores.masked_fill(~torch.ones(scores.shape[-2:], dtype=torch.bool).tril(), -torch.inf)
        return (scores.softmax(-1) @ value).transpose(1, 2).contiguous(), None

    AttentionInterface.register("rounding", attention)
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="rounding").eval()
    with torch.inference_mode():
        logits: torch.Tensor = plain(torch.tensor([MADE]), use_cache=False).logits[0, -CONTINUATION:]
    return logits


def divergence(one: torch.Tensor, other: torch.Tensor) -> float:
    """Mean KL divergence of the tokens; a number between two codes falls to either side by its last bit."""
    first, second = one.double().log_softmax(-1), other.double().log_softmax(-1)
    return float((first.exp() * (first - second)).sum(-1).mean())


def judged(model: LoadedModel, snapshot: Snapshot, config: CompressionConfig) -> torch.Tensor:
    return continuation_logits(model, snapshot, MADE[CONTEXT:], [apply(model, snapshot, config, CONTINUATION)])[0]


@pytest.mark.parametrize(("key", "value"), PAIRS)
def test_every_token_is_read_as_it_was_written(
    key: str, value: str, folder: Path, model: LoadedModel, snapshot: Snapshot
) -> None:
    expected = rounding(folder, lambda layer: (FORMATS[key](format=key), FORMATS[value](format=value)))
    full = continuation_logits(model, snapshot, MADE[CONTEXT:], [FullContext(snapshot.next_logits)])[0]
    assert divergence(expected, judged(model, snapshot, formats(key, value))) < 0.01 * divergence(expected, full)


def test_layers_have_formats_of_their_own(folder: Path, model: LoadedModel, snapshot: Snapshot) -> None:
    layers = [{"layers": [0, -1], "key": {"format": "f32"}, "value": {"format": "f32"}}]
    config = formats("q4_0", "q4_0", layers=layers)
    plain, small = FORMATS["f32"](format="f32"), FORMATS["q4_0"](format="q4_0")
    count = model.facts.layers
    expected = rounding(folder, lambda layer: (plain, plain) if layer in (0, count - 1) else (small, small))
    full = continuation_logits(model, snapshot, MADE[CONTEXT:], [FullContext(snapshot.next_logits)])[0]
    assert divergence(expected, judged(model, snapshot, config)) < 0.01 * divergence(expected, full)
    heads, width = model.facts.kv_heads, model.facts.head_dim
    nbytes = 2 * 2 * plain.nbytes(CONTEXT, heads, width) + (count - 2) * 2 * small.nbytes(CONTEXT, heads, width)
    assert apply(model, snapshot, config, CONTINUATION).size()["kv_bytes_per_token"] == nbytes / CONTEXT


def test_a_prompt_that_sees_itself_exactly_is_one_that_is_compressed_afterwards(
    model: LoadedModel, snapshot: Snapshot
) -> None:
    written = formats("openvino_u4", "openvino_u4", write={"rule": "on_write", "own_chunk": "exact"})
    afterwards = formats("openvino_u4", "openvino_u4", write="after_prefill")
    candidate = apply(model, snapshot, written, CONTINUATION)
    torch.testing.assert_close(candidate.next_logits, snapshot.next_logits, rtol=1e-4, atol=1e-4)
    full = continuation_logits(model, snapshot, MADE[CONTEXT:], [FullContext(snapshot.next_logits)])[0]
    found, expected = judged(model, snapshot, written), judged(model, snapshot, afterwards)
    assert divergence(expected, found) < 0.01 * divergence(full, expected)
    assert candidate.size() == apply(model, snapshot, afterwards, CONTINUATION).size()
    chunks = formats("openvino_u4", "openvino_u4", write={"rule": "on_write", "own_chunk": "exact", "chunk_tokens": 16})
    moved = apply(model, snapshot, chunks, CONTINUATION).next_logits
    assert not torch.allclose(moved, snapshot.next_logits, rtol=1e-3, atol=1e-3)
    one_by_one = formats(
        "openvino_u4", "openvino_u4", write={"rule": "on_write", "own_chunk": "exact", "chunk_tokens": 1}
    )
    assert not torch.allclose(apply(model, snapshot, one_by_one, CONTINUATION).next_logits, moved, rtol=1e-3, atol=1e-3)


def test_autokvs_own_integers_can_be_written_too(model: LoadedModel, snapshot: Snapshot) -> None:
    form = {"bits": 4, "axis": "token", "group_size": 32}
    stage = {"method": "integer", "key": form, "value": form, "residual_tokens": 0}
    ours = CompressionConfig.parse({"pipeline": {"quantization": stage, "write": "on_write"}})
    one = apply(model, snapshot, ours, CONTINUATION)
    assert len(one.compressed) == model.facts.layers
    # llama.cpp's q4_1 without its rotation: the same minimum and step, 16-bit, of 32 channels.
    q4_1 = {"format": "q4_1", "rotation": "none"}
    theirs = CompressionConfig.parse(
        {"pipeline": {"quantization": {"method": "format", "key": q4_1, "value": q4_1}, "write": "on_write"}}
    )
    full = continuation_logits(model, snapshot, MADE[CONTEXT:], [FullContext(snapshot.next_logits)])[0]
    found, expected = judged(model, snapshot, ours), judged(model, snapshot, theirs)
    assert divergence(expected, found) < 0.2 * divergence(full, expected)
    assert one.size() == apply(model, snapshot, theirs, CONTINUATION).size()


def test_answers_continue_from_what_was_written(folder: Path, model: LoadedModel, snapshot: Snapshot) -> None:
    candidate = apply(model, snapshot, formats("f32", "f32"), CONTINUATION)
    full = FullContext(snapshot.next_logits)
    assert greedy(model, snapshot, [candidate], 12, frozenset()) == greedy(model, snapshot, [full], 12, frozenset())


def test_a_format_is_judged_and_not_timed(model: LoadedModel) -> None:
    config = formats("q8_0", "q8_0")
    (measured,) = Evaluator(model, [PROMPT], 12, needs_of([config])).evaluate([config])
    assert isinstance(measured, Measurement)
    assert 0 < measured.value("kl_divergence") < 0.1
    assert not {"attention_us", "compress_us"} & set(measured.metrics)
    assert measured.to_dict()["write"] == "on_write"
    with pytest.raises(ConfigError, match=r"pipeline\.quantization\.method.*judged, not run"):
        CompressedCache.from_config(model.model, config)


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ({"quantization": {"method": "fp8"}}, "fp8_e4m3"),
        (
            {
                "quantization": {
                    "method": "integer",
                    "key": {"bits": 4, "axis": "channel"},
                    "value": {"bits": 4, "axis": "token"},
                    "residual_tokens": 0,
                }
            },
            "shares scales between tokens",
        ),
        (
            {
                "quantization": {
                    "method": "integer",
                    "key": {"bits": 4, "axis": "token"},
                    "value": {"bits": 4, "axis": "token"},
                }
            },
            "residual_tokens to 0",
        ),
        ({"eviction": {"method": "knorm", "keep_ratio": 0.5}}, "takes no eviction"),
    ],
)
def test_what_cannot_be_written_token_by_token_is_refused(stages: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        CompressionConfig.parse({"pipeline": {**stages, "write": "on_write"}})


def test_a_digest_is_what_it_was_before_there_were_write_rules() -> None:
    plain = CompressionConfig.parse({"pipeline": {"write": "after_prefill"}})
    assert plain == CompressionConfig()
    assert plain.digest == "596d48e1dbc7228c4d4afa55b41c365f599f0677e4e3915a2820f848f3de5cb7"


def test_scales_of_the_prompt_stay(model: LoadedModel, snapshot: Snapshot) -> None:
    """fp8 as transformers' QuantizedCache holds it: one scale per layer and side, of the prompt, for new tokens too."""
    scaled = formats("fp8_e4m3", "fp8_e4m3", write="after_prefill").model_dump(mode="json")
    for side in ("key", "value"):
        scaled["pipeline"]["quantization"][side] = {"format": "fp8_e4m3", "scaling": "tensor"}
    found = judged(model, snapshot, CompressionConfig.parse(scaled))
    cache = QuantizedCache("fp8", model.model.config)
    model.model.set_attn_implementation("eager")
    try:
        with torch.inference_mode():
            model.model(torch.tensor([MADE[:CONTEXT]]), past_key_values=cache)
            rows = [
                model.model(torch.tensor([[token]]), past_key_values=cache).logits[0, -1] for token in MADE[CONTEXT:]
            ]
    finally:
        install(model.model)
    full = continuation_logits(model, snapshot, MADE[CONTEXT:], [FullContext(snapshot.next_logits)])[0]
    expected = torch.stack(rows).float()
    assert divergence(expected, found) < 0.01 * divergence(expected, full)


@pytest.mark.parametrize("name", ["q4_0", "openvino_u4", "int4_per_token_head"])
def test_a_prompt_may_be_shorter_than_the_window_of_a_format(name: str, model: LoadedModel, snapshot: Snapshot) -> None:
    config = formats(name, name, write="after_prefill", residual_tokens=CONTEXT + CONTINUATION)
    candidate = apply(model, snapshot, config, CONTINUATION)
    full = continuation_logits(model, snapshot, MADE[CONTEXT:], [FullContext(snapshot.next_logits)])[0]
    assert divergence(full, judged(model, snapshot, config)) < 1e-4  # the window is held in 16 bits
    assert candidate.size()["compression_ratio"] == 1


@pytest.mark.parametrize("write", ["on_write", "after_prefill"])
def test_each_kv_head_may_have_a_scale(write: str, model: LoadedModel, snapshot: Snapshot) -> None:
    sizes = []
    for scale in (0.5, [0.5] * model.facts.kv_heads):
        form = {"format": "fp8_e4m3", "scale": scale}
        stage = {"method": "format", "key": form, "value": form}
        config = CompressionConfig.parse({"pipeline": {"quantization": stage, "write": write}})
        sizes.append(apply(model, snapshot, config, CONTINUATION).size())
    assert sizes[0] == sizes[1]
    assert sizes[0]["compression_ratio"] == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers": [{"layers": [99], "key": {"format": "f16"}, "value": {"format": "f16"}}]}, "names layer 99"),
        ({"key": {"format": "fp8_e4m3", "scale": [1, 2, 3]}}, "scale has 3 entries"),
    ],
)
def test_a_format_that_does_not_fit_the_model_is_refused(
    change: dict[str, Any], message: str, model: LoadedModel, snapshot: Snapshot
) -> None:
    stage = {"method": "format", "key": {"format": "q4_0"}, "value": {"format": "q4_0"}, **change}
    config = CompressionConfig.parse({"pipeline": {"quantization": stage, "write": "on_write"}})
    with pytest.raises(ConfigError, match=rf"pipeline\.quantization.*{message}"):
        apply(model, snapshot, config, CONTINUATION)


def test_chunks_that_change_nothing_are_refused() -> None:
    with pytest.raises(ConfigError, match="chunk_tokens changes nothing"):
        CompressionConfig.parse({"pipeline": {"write": {"rule": "on_write", "chunk_tokens": 16}}})


@pytest.mark.parametrize("write", ["on_write", "after_prefill", {"rule": "on_write", "own_chunk": "exact"}])
def test_the_schema_takes_a_rule_by_its_name(write: object) -> None:
    validator = jsonschema.Draft202012Validator(json_schema())
    validator.validate({"pipeline": {"write": write}})
    assert not validator.is_valid({"pipeline": {"write": "on_writ"}})


def test_scales_of_several_tokens_are_judged_only_while_the_window_takes_what_comes(model: LoadedModel) -> None:
    def config(residual: int, *, prompt_window: bool) -> CompressionConfig:
        form = {"format": "integer", "bits": 4, "axis": "channel", "group_size": 16}
        stage = {"method": "format", "key": form, "value": form, "residual_tokens": residual}
        write = {"rule": "after_prefill", "prompt_window": prompt_window}
        return CompressionConfig.parse({"pipeline": {"quantization": stage, "write": write}})

    evaluator = Evaluator(model, [PROMPT], CONTINUATION, needs_of([]), timed=False)
    full, short, wide = evaluator.evaluate(
        [config(64, prompt_window=True), config(8, prompt_window=False), config(64, prompt_window=False)]
    )
    for refused in (full, short):
        assert isinstance(refused, ConfigError)
        assert "residual_tokens to 24 or more" in str(refused)
    assert isinstance(wide, Measurement)
