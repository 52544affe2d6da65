"""Deployment targets: what each can hold of a configuration, when it compresses a token, and its options.

One file per target. Nothing here imports torch.
"""

from __future__ import annotations

from typing import Final

from autokv.errors import RequestError, nearest
from autokv.export.autokv import AutoKV
from autokv.export.exporting import Export, export
from autokv.export.fidelity import PARTS, Change, Fidelity, differing
from autokv.export.findings import Device, Finding
from autokv.export.kvpress import KVPress
from autokv.export.llama_cpp import LlamaCpp, Ollama
from autokv.export.lmcache import LMCache
from autokv.export.mlx_lm import MLXLM
from autokv.export.onnxruntime_genai import ONNXRuntimeGenAI
from autokv.export.openvino import OpenVINO
from autokv.export.sglang import SGLang
from autokv.export.target import Artifact, Target
from autokv.export.tensorrt_llm import TensorRTLLM
from autokv.export.transformers import Transformers
from autokv.export.vllm import VLLM

TARGETS: Final[dict[str, Target]] = {
    target.name: target
    for target in (
        VLLM(),
        SGLang(),
        TensorRTLLM(),
        LlamaCpp(),
        Ollama(),
        OpenVINO(),
        Transformers(),
        ONNXRuntimeGenAI(),
        MLXLM(),
        LMCache(),
        KVPress(),
        AutoKV(),
    )
}
"""By name."""


def target_named(name: str) -> Target:
    """One of :data:`TARGETS`.

    Raises:
        RequestError: there is none of this name.
    """
    if name not in TARGETS:
        raise RequestError(
            f"{name[:80]!r} is no target",
            field="--target",
            remedy=nearest(name, TARGETS) or f"known are {', '.join(TARGETS)}",
        )
    return TARGETS[name]


__all__ = [
    "PARTS",
    "TARGETS",
    "Artifact",
    "Change",
    "Device",
    "Export",
    "Fidelity",
    "Finding",
    "Target",
    "differing",
    "export",
    "target_named",
]
