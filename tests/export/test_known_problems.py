"""What an engine takes and gets wrong, or does not run on a device, is told when a configuration is exported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from autokv.config import CompressionConfig
from autokv.errors import ConfigError
from autokv.export import TARGETS, Device, Finding
from autokv.models.facts import ModelFacts

Made = Callable[..., CompressionConfig]
SCALED = {"format": "fp8_e4m3", "scale": 0.05}


def told(
    target: str,
    config: CompressionConfig,
    facts: ModelFacts | None = None,
    device: str | None = None,
    backend: str | None = None,
) -> dict[str, list[Finding]]:
    """Findings by level."""
    held = TARGETS[target].hold(config, facts).held
    found = TARGETS[target].check(held, facts, Device.parse(device) if device else None, backend)
    assert all(one.source and one.message for one in found)
    return {level: [one for one in found if one.level == level] for level in ("warning", "refusal")}


def vllm(dtype: str) -> CompressionConfig:
    return TARGETS["vllm"].parse(["--kv-cache-dtype", dtype])


def says(found: list[Finding], *words: str) -> bool:
    return any(all(word in one.message for word in words) for one in found)


@pytest.mark.parametrize(("dtype", "figure"), [("int8_per_token_head", "10.5"), ("turboquant_4bit_nc", "9.7")])
def test_vllm_on_a_processor_accepts_formats_that_it_does_not_have(dtype: str, figure: str) -> None:
    for found in (told("vllm", vllm(dtype), device="cpu"), told("vllm", vllm(dtype), backend="CPU_ATTN")):
        assert says(found["refusal"], dtype, "noise", figure)
    assert not told("vllm", vllm(dtype))["refusal"]
    assert not told("vllm", vllm("fp8_e4m3"), device="cpu")["refusal"]


def test_vllms_backends_are_held_to_their_lists(facts: ModelFacts) -> None:
    assert says(told("vllm", vllm("fp8_e5m2"), backend="FLASH_ATTN")["refusal"], "not among the backend's types")
    assert not told("vllm", vllm("fp8_e5m2"), facts, "sm90", "FLASHINFER")["refusal"]
    odd = replace(facts, head_dim=80)
    assert says(told("vllm", vllm("fp8_e5m2"), odd, "sm90", "FLASHINFER")["refusal"], "80")
    with pytest.raises(ConfigError, match="did you mean FLASH_ATTN"):
        told("vllm", vllm("fp8"), backend="FLASH_ATTEN")
    assert says(told("vllm", vllm("fp8"), device="cpu", backend="FLASHINFER")["refusal"], "runs on cuda")


@pytest.mark.parametrize(
    ("dtype", "device", "backend", "words"),
    [
        ("fp8_e4m3", "sm86", "TRITON_ATTN", ("8.9",)),
        ("fp8_e4m3", "sm70", "TRITON_ATTN", ("V100", "fp8_e5m2 only")),
        ("fp8_e4m3", "sm80", "FLASH_ATTN", ("FlashAttention 3",)),
        ("fp8_per_token_head", "sm80", None, ("8.9",)),
        ("nvfp4", "sm90", None, ("64 channels",)),
        ("nvfp4_4over6", "sm120", None, ("compute capability 10",)),
        ("fp8_e4m3", "gfx1100", None, ("RDNA3",)),
        ("ultraquant_4bit", "sm90", None, ("not among",)),
    ],
)
def test_what_a_gpu_does_not_run(
    dtype: str, device: str, backend: str | None, words: tuple[str, ...], facts: ModelFacts
) -> None:
    assert says(told("vllm", vllm(dtype), facts, device, backend)["refusal"], *words)


@pytest.mark.parametrize(
    ("dtype", "device", "backend"),
    [
        ("fp8_e4m3", "sm89", "TRITON_ATTN"),
        ("fp8_e5m2", "sm70", "TRITON_ATTN"),
        ("fp8_e4m3", "sm90", None),
        ("nvfp4", "sm100", None),
        ("fp8_e5m2", "gfx1100", None),
        ("int4_per_token_head", "sm80", None),
        ("turboquant_k8v4", "sm80", None),
    ],
)
def test_what_it_runs(dtype: str, device: str, backend: str | None, facts: ModelFacts) -> None:
    assert not told("vllm", vllm(dtype), facts, device, backend)["refusal"]


def test_fp8_without_scales_and_with_them(formats_config: Made) -> None:
    plain, scaled = told("vllm", vllm("fp8")), told("vllm", formats_config(SCALED))
    assert says(plain["warning"], "scale 1")
    assert not says(scaled["warning"], "scale 1")
    assert says(scaled["warning"], "auto means fp8", "0.042", "0.035")
    assert says(told("vllm", vllm("fp8"), device="gfx942")["warning"], "fnuz")
    assert says(told("vllm", vllm("fp8"), device="cpu")["warning"], "drops the bits", "0.037")


def test_float16_of_a_bfloat16_model() -> None:
    assert says(told("vllm", vllm("float16"))["warning"], "nonsense")


def test_sliding_window_models(sliding: ModelFacts) -> None:
    for dtype in ("int4_per_token_head", "turboquant_3bit_nc"):
        assert says(told("vllm", vllm(dtype), sliding)["refusal"], "sliding-window")
        skipping = TARGETS["vllm"].parse(["--kv-cache-dtype", dtype, "--kv-cache-dtype-skip-layers", "sliding_window"])
        assert not told("vllm", skipping, sliding)["refusal"]
    assert not told("vllm", vllm("fp8"), sliding)["refusal"]
    quanto = TARGETS["transformers"].parse(['{"backend": "quanto"}'])
    assert says(told("transformers", quanto, sliding)["refusal"], "full attention only")
    mlx = TARGETS["mlx-lm"].parse(["--kv-bits", "4", "--quantized-kv-start", "0"])
    assert says(told("mlx-lm", mlx, sliding)["refusal"], "rotating cache")


def test_sglangs_devices_and_scale_file(formats_config: Made, facts: ModelFacts) -> None:
    assert says(told("sglang", formats_config("nvfp4"), device="sm90")["refusal"], "fp4_mx_block16")
    assert not told("sglang", formats_config("nvfp4"), device="sm120")["refusal"]
    assert says(told("sglang", formats_config("mxfp8"), device="sm90")["refusal"], "Blackwell")
    assert says(told("sglang", formats_config("fp8_e5m2"), device="cpu")["refusal"], "processors")
    assert says(told("sglang", formats_config("fp8_e5m2"), device="gfx942")["warning"], "e4m3")
    assert says(told("sglang", formats_config("fp8_e4m3"))["warning"], "scale 1")
    assert says(told("sglang", formats_config(SCALED), facts)["refusal"], "scale file", "llama")
    assert not told("sglang", formats_config(SCALED), replace(facts, model_type="qwen2"))["refusal"]


def test_tensorrt_llm_needs_the_gpu_of_the_format(formats_config: Made) -> None:
    assert says(told("tensorrt-llm", formats_config("nvfp4"), device="sm90")["refusal"], "Blackwell")
    assert says(told("tensorrt-llm", formats_config("fp8_e4m3"), device="sm80")["refusal"], "8.9")
    assert "TriAttention" in TARGETS["tensorrt-llm"].why("eviction")


def test_llama_cpp_flash_attention_and_head_widths(facts: ModelFacts) -> None:
    def parsed(*arguments: str) -> CompressionConfig:
        return TARGETS["llama.cpp"].parse(arguments)

    mixed = parsed("-ctk", "q8_0", "-ctv", "q4_0")
    assert says(told("llama.cpp", mixed)["warning"], "flash attention")
    assert says(told("llama.cpp", mixed, device="sm90")["warning"], "GGML_CUDA_FA_ALL_QUANTS")
    same = parsed("-ctk", "q4_0", "-ctv", "q4_0")
    assert not says(told("llama.cpp", same, device="sm90")["warning"], "GGML_CUDA_FA_ALL_QUANTS")
    assert says(told("llama.cpp", same, replace(facts, head_dim=96))["warning"], "does not rotate")
    narrow = replace(facts, head_dim=80)
    assert TARGETS["llama.cpp"].hold(same, narrow).held.pipeline.quantization.key.format in ("f16", "bf16", "f32")  # type: ignore[union-attr]
    found = TARGETS["llama.cpp"].check(same, narrow)
    assert says([one for one in found if one.level == "refusal"], "multiple of 32", "80")


def test_ollama_falls_back() -> None:
    config = TARGETS["ollama"].parse(["OLLAMA_KV_CACHE_TYPE=q8_0"])
    assert says(told("ollama", config)["warning"], "log")


def test_onnx_runtime_needs_a_calibration_and_has_no_fp8_on_processors(formats_config: Made) -> None:
    static = TARGETS["onnxruntime-genai"].parse(["kv_cache_quant_type=int8_per_channel"])
    assert says(told("onnxruntime-genai", static)["warning"], "calibration")
    given = formats_config({"format": "static_int8", "scaling": "tensor", "scale": 0.1})
    assert not told("onnxruntime-genai", given)["warning"]
    fp8 = TARGETS["onnxruntime-genai"].parse(["kv_cache_quant_type=fp8_per_tensor"])
    assert says(told("onnxruntime-genai", fp8, device="cpu")["refusal"], "no kernel")
    assert not told("onnxruntime-genai", fp8, device="sm90")["refusal"]


def test_caches_that_are_compressed_unasked_or_late(formats_config: Made) -> None:
    assert says(told("openvino", CompressionConfig())["warning"], "u8")
    assert TARGETS["openvino"].arguments(CompressionConfig()) == ["KV_CACHE_PRECISION=f16"]
    mlx = formats_config({"format": "mlx_affine", "bits": 4})
    assert says(told("mlx-lm", mlx)["warning"], "5000")
    assert "--quantized-kv-start 0" in " ".join(TARGETS["mlx-lm"].arguments(TARGETS["mlx-lm"].hold(mlx).held))


def test_lmcache_and_a_second_server() -> None:
    found = told("lmcache", vllm("fp8"))
    assert says(found["warning"], "0 bytes")
    assert says(found["warning"], "same --kv-cache-dtype")


def test_kvpress_masks_with_adaptive_heads() -> None:
    adaptive = ["press=KnormPress", "wrapper=AdaKVPress", "compression_ratio=0.5"]
    assert says(told("kvpress", TARGETS["kvpress"].parse(adaptive))["warning"], "no memory is freed")


def test_scales_that_do_not_fit_the_model_are_refused(facts: ModelFacts, formats_config: Made) -> None:
    config = formats_config({"format": "fp8_e4m3", "scale": [0.1, 0.2, 0.3]})
    found: Any = TARGETS["vllm"].check(config, facts)
    assert says([one for one in found if one.level == "refusal"], "3 entries", "2 KV heads")
    assert TARGETS["vllm"].hold(config, facts).level == "nearest"
