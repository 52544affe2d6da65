"""vLLM's arguments, rendered once, wrapped for what starts vLLM."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any, Final

from autokv.documents import rendered
from autokv.export.target import Artifact

IMAGE: Final = ("vllm/vllm-openai", "v0.32.0")


def wrapped(arguments: Sequence[str], model: str) -> tuple[Artifact, ...]:
    """vLLM's command and configuration file, a Deployment, values of the production-stack chart, KServe's
    InferenceService, llm-d's LLMInferenceService, and Ray Serve's configuration."""
    own = list(arguments)
    keywords = _keywords(own)
    documents: dict[str, Any] = {
        "vllm-config.yaml": {"model": model, **{name.replace("_", "-"): value for name, value in keywords.items()}},
        "deployment.yaml": _deployment(own, model),
        "production-stack-values.yaml": _production_stack(own, model),
        "kserve.yaml": _kserve(own, model),
        "llm-d.yaml": _llm_d(own, model),
        "ray-serve.yaml": _ray_serve(keywords, model),
    }
    return (
        Artifact("arguments", "vllm-serve.sh", shlex.join(["vllm", "serve", model, *own]) + "\n"),
        *(Artifact("yaml", name, rendered(document, "yaml").decode()) for name, document in documents.items()),
    )


def _keywords(arguments: list[str]) -> dict[str, Any]:
    """The arguments as the fields of vLLM's ``EngineArgs``."""
    keywords: dict[str, Any] = {}
    for argument in arguments:
        if argument.startswith("--"):
            field = argument.removeprefix("--").replace("-", "_")
            keywords[field] = [] if field.endswith("layers") else None
        elif isinstance(keywords[field], list):
            keywords[field].append(argument)
        else:
            keywords[field] = int(argument) if argument.isdecimal() else argument
    return keywords


def _deployment(arguments: list[str], model: str) -> dict[str, Any]:
    container = {
        "name": "vllm",
        "image": ":".join(IMAGE),
        "args": ["--model", model, *arguments],
        "ports": [{"containerPort": 8000}],
        "resources": {"limits": {"nvidia.com/gpu": 1}},
    }
    labels = {"app": "vllm"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "vllm", "labels": labels},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    }


def _production_stack(arguments: list[str], model: str) -> dict[str, Any]:
    spec = {
        "name": "vllm",
        "repository": IMAGE[0],
        "tag": IMAGE[1],
        "modelURL": model,
        "replicaCount": 1,
        "requestCPU": 4,
        "requestMemory": "16Gi",
        "requestGPU": 1,
        "vllmConfig": {"extraArgs": arguments},
    }
    return {"servingEngineSpec": {"modelSpec": [spec]}}


def _kserve(arguments: list[str], model: str) -> dict[str, Any]:
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": "vllm"},
        "spec": {
            "predictor": {
                "model": {
                    "modelFormat": {"name": "huggingface"},
                    "args": arguments,
                    "storageUri": f"hf://{model}",
                    "resources": {"limits": {"nvidia.com/gpu": "1"}},
                }
            }
        },
    }


def _llm_d(arguments: list[str], model: str) -> dict[str, Any]:
    environment = [{"name": "VLLM_ADDITIONAL_ARGS", "value": shlex.join(arguments)}]
    return {
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": "LLMInferenceService",
        "metadata": {"name": "vllm"},
        "spec": {
            "model": {"uri": f"hf://{model}", "name": model},
            "template": {"containers": [{"name": "main", "env": environment}]},
        },
    }


def _ray_serve(keywords: dict[str, Any], model: str) -> dict[str, Any]:
    served = {
        "model_loading_config": {"model_id": model, "model_source": model},
        "engine_kwargs": keywords,
    }
    application = {
        "name": "vllm",
        "import_path": "ray.serve.llm:build_openai_app",
        "args": {"llm_configs": [served]},
    }
    return {"applications": [application]}
