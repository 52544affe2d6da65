"""What is judged is what the runtime does: the same tokens give the same logits in both."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
import torch

from autokv import CompressedCache, CompressionConfig
from autokv.evaluation import Prompt
from autokv.evaluation.candidate import apply
from autokv.evaluation.continuation import FullContext, continuation_logits, greedy
from autokv.evaluation.evaluator import needs_of
from autokv.evaluation.snapshot import take_snapshot
from autokv.kernels import backend
from autokv.models import LoadedModel, load
from autokv.runtime.attention import install

if TYPE_CHECKING:
    from tests.conftest import GenerativeModel

CONTEXT, CONTINUATION = 150, 72


def integers(axis: str, residual: int, **more: object) -> dict[str, Any]:
    form = {"bits": 4, "axis": axis, "group_size": 16}
    return {"method": "integer", "key": form, "value": {**form, "axis": "token"}, "residual_tokens": residual, **more}


def evicting(method: str, **more: object) -> dict[str, Any]:
    return {"method": method, "keep_ratio": 0.5, "recent_tokens": 16, **more}


def pipelines() -> Iterator[Any]:
    for residual in (0, 1, 16, 128):
        yield pytest.param({"quantization": integers("token", residual)}, id=f"token {residual}")
        yield pytest.param({"quantization": integers("channel", residual)}, id=f"channel {residual}")
        fp8 = {"method": "fp8", "residual_tokens": residual, "rotation": "hadamard"}
        yield pytest.param({"quantization": fp8}, id=f"fp8 {residual}")
        gear = {"method": "residual", "key_rank": 4, "value_rank": 2}
        yield pytest.param({"quantization": integers("token", residual), "low_rank": gear}, id=f"GEAR {residual}")
    whole = {"rule": "after_prefill", "prompt_window": False}
    yield pytest.param({"quantization": integers("token", 32), "write": whole}, id="whole prompt")
    svd = {"method": "latent", "key_rank": 8, "value_rank": 8}
    yield pytest.param({"quantization": {"method": "fp8"}, "low_rank": svd}, id="latent")
    for method in ("knorm", "tova", "h2o", "lagkv", "streaming_llm"):
        more = {"options": {"lag": 16}} if method == "lagkv" else {}
        stages = {"eviction": evicting(method, **more), "quantization": integers("token", 0)}
        yield pytest.param(stages, id=method)
    snapkv = evicting("snapkv", options={"window": 16}, head_budget="adaptive")
    yield pytest.param({"eviction": snapkv, "quantization": integers("channel", 16)}, id="ragged snapkv")


@pytest.fixture(scope="module", params=["llama", "gemma2"])
def model(request: pytest.FixtureRequest, tiny_model_folder: Callable[..., Path]) -> LoadedModel:
    loaded = load(str(tiny_model_folder(request.param)), dtype="float32", device="cpu")
    install(loaded.model)
    return loaded


def divergence(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """KL divergence of every token, ``[tokens]``."""
    first, second = one.double().log_softmax(-1), other.double().log_softmax(-1)
    return (first.exp() * (first - second)).sum(-1)


@pytest.mark.parametrize("stages", list(pipelines()))
def test_a_judged_continuation_is_the_runtimes(stages: dict[str, Any], model: LoadedModel) -> None:
    config = CompressionConfig.parse({"pipeline": stages})
    made = torch.randint(0, 256, (CONTEXT + CONTINUATION,), generator=torch.Generator().manual_seed(0)).tolist()
    prompt = Prompt("p", "text", tuple(made[:CONTEXT]), tuple(made[CONTEXT:]))
    snapshot = take_snapshot(model, prompt, needs_of([config]), backend(model.device))
    candidate = apply(model, snapshot, config, CONTINUATION)
    judged, full = continuation_logits(model, snapshot, made[CONTEXT:], [candidate, FullContext(snapshot.next_logits)])
    answer = greedy(model, snapshot, [candidate], 24, frozenset())[0]

    cache = CompressedCache.from_config(model.model, config)
    with torch.inference_mode():
        first = model.model(torch.tensor([made[:CONTEXT]]), past_key_values=cache).logits[0, -1]
        rows = [model.model(torch.tensor([[token]]), past_key_values=cache).logits[0, -1] for token in made[CONTEXT:]]
        generated = cast("GenerativeModel", model.model).generate(
            torch.tensor([made[:CONTEXT]]),
            past_key_values=CompressedCache.from_config(model.model, config),
            max_new_tokens=24,
            do_sample=False,
            eos_token_id=None,
        )
    torch.testing.assert_close(first.float(), snapshot.next_logits, rtol=1e-4, atol=1e-4)
    # A number that lies between two codes falls to either side by its last bit, here as there.
    apart, lost = divergence(torch.stack(rows), judged), divergence(full, judged)
    assert apart.mean() < 0.01 * lost.mean()
    assert apart.max() < 0.05 * lost.max()
    assert answer == generated[0, CONTEXT:].tolist()
