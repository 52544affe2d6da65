"""A cache that is copied, saved or trained through."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import pytest
import torch

from autokv import CompressedCache, CompressionConfig
from autokv.errors import ModelError, RequestError

if TYPE_CHECKING:
    from tests.conftest import GenerativeModel

Tiny = Callable[..., "GenerativeModel"]
Ids = Callable[..., torch.Tensor]
FORMS: dict[str, dict[str, object]] = {
    "identity": {},
    "snapkv and int4": {
        "eviction": {"method": "snapkv", "keep_ratio": 0.5, "recent_tokens": 8, "options": {"window": 8}},
        "quantization": {
            "method": "integer",
            "key": {"bits": 4, "axis": "channel", "group_size": 16},
            "value": {"bits": 4, "axis": "token", "group_size": 16},
            "residual_tokens": 8,
        },
    },
    "latent fp8": {
        "quantization": {"method": "fp8"},
        "low_rank": {"method": "latent", "key_rank": 12, "value_rank": 8},
    },
}


def config(name: str) -> CompressionConfig:
    return CompressionConfig.parse({"pipeline": FORMS[name]})


@pytest.mark.parametrize("family", ["llama", "gemma3_text"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_deep_copy_goes_on_by_itself(
    form: str, family: str, mode: Callable[[], AbstractContextManager[object]], tiny: Tiny, ids: Ids
) -> None:
    model = tiny(family)
    cache, expected = (CompressedCache.from_config(model, config(form)) for _ in range(2))
    tokens = ids(2, 40, seed=1).unbind(1)
    with mode():
        for each in (cache, expected):
            model(ids(2, 60), past_key_values=each)
            for token in tokens[:20]:
                model(token[:, None], past_key_values=each)
        twin = copy.deepcopy(cache)
        assert twin.nbytes == cache.nbytes
        # What one of them goes on to do is not seen by the other.
        for _ in range(30):
            model(tokens[0][:, None], past_key_values=twin)
        for token in tokens[20:]:
            logits = model(token[:, None], past_key_values=cache).logits
            wanted = model(token[:, None], past_key_values=expected).logits
        torch.testing.assert_close(logits, wanted, rtol=0, atol=0)
    assert twin.get_seq_length() == 110


def test_a_deep_copy_holds_memory_of_its_own_and_no_model(tiny: Tiny, ids: Ids) -> None:
    model = tiny("llama")
    cache = CompressedCache.from_config(model, config("snapkv and int4"))
    model.generate(ids(), past_key_values=cache, max_new_tokens=30, eos_token_id=None, do_sample=False)
    memo: dict[int, object] = {}
    twin = copy.deepcopy(cache, memo)
    copied = [thing for thing in memo.values() if isinstance(thing, torch.Tensor)]
    assert 0 < sum(tensor.nbytes for tensor in copied) <= cache.nbytes
    assert not any(isinstance(thing, torch.nn.Module) for thing in memo.values())
    ours, theirs = (
        {tensor.data_ptr() for layer in each.layers for tensor in layer.held() if tensor.nbytes}
        for each in (cache, twin)
    )
    assert not ours & theirs


@pytest.mark.parametrize("save", [pickle.dumps, lambda cache: torch.save(cache, io.BytesIO())])
def test_saving_is_refused(save: Callable[[CompressedCache], object], tiny: Tiny, ids: Ids) -> None:
    model = tiny("gemma3_text")
    cache = CompressedCache.from_config(model, CompressionConfig())
    with torch.no_grad():
        model(ids(), past_key_values=cache)
    with pytest.raises(RequestError, match=r"cannot be saved.*copy\.deepcopy"):
        save(cache)


@pytest.mark.parametrize("family", ["llama", "gemma2", "gemma3_text"])
def test_a_loss_over_a_prompt_has_the_models_own_gradients(family: str, tiny: Tiny, ids: Ids) -> None:
    model, prompt = tiny(family), ids(2, 40)

    def gradients(**options: object) -> dict[str, torch.Tensor | None]:
        model.zero_grad()
        model(prompt, labels=prompt, **options).loss.backward()
        return {name: parameter.grad for name, parameter in model.named_parameters()}

    expected = gradients(use_cache=False)
    found = gradients(past_key_values=CompressedCache.from_config(model, config("snapkv and int4")))
    for name, gradient in expected.items():
        assert gradient is not None
        assert gradient.abs().max() > 0
        torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("new", [1, 5])
def test_a_loss_behind_a_compressed_prompt_fails_aloud(new: int, tiny: Tiny, ids: Ids) -> None:
    model = tiny("llama")
    cache = CompressedCache.from_config(model, config("snapkv and int4"))
    with torch.no_grad():
        model(ids(), past_key_values=cache)
    logits = model(ids(1, new, seed=1), past_key_values=cache).logits
    with pytest.raises(ModelError, match=r"no gradient flows.*use_cache=False"):
        logits.sum().backward()
