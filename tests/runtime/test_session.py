"""``autokv.compress``: blocks that overlap, in one thread and in several, and a model that is as before."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Thread
from typing import TYPE_CHECKING

import pytest
import torch
from transformers import GenerationConfig, PreTrainedModel

import autokv
from autokv import CompressedCache, CompressionConfig
from autokv.errors import ConfigError, RequestError
from autokv.runtime.session import Compression

if TYPE_CHECKING:
    from tests.conftest import GenerativeModel

Tiny = Callable[..., "GenerativeModel"]
Ids = Callable[..., torch.Tensor]
GREEDY = {"do_sample": False, "eos_token_id": None, "max_new_tokens": 8}
EIGHT_BITS = CompressionConfig.parse(
    {
        "pipeline": {
            "quantization": {
                "method": "integer",
                "key": {"bits": 8, "axis": "channel", "group_size": 16},
                "value": {"bits": 8, "axis": "token", "group_size": 16},
                "residual_tokens": 0,
            }
        }
    }
)
FEW_TOKENS = CompressionConfig.parse(
    {"pipeline": {"eviction": {"method": "streaming_llm", "keep_ratio": 0.5, "recent_tokens": 4}}}
)


def is_itself(model: PreTrainedModel) -> bool:
    return "generate" not in vars(model) and model.config._attn_implementation == "sdpa"


def used(compression: Compression) -> CompressionConfig | None:
    return None if compression.cache is None else compression.cache.config


@pytest.mark.parametrize("first_out", [0, 1])
def test_blocks_that_overlap_in_one_thread(first_out: int, tiny: Tiny, ids: Ids) -> None:
    model = tiny("llama")
    blocks = [autokv.compress(model, EIGHT_BITS), autokv.compress(model, FEW_TOKENS)]
    compressions = [block.__enter__() for block in blocks]
    model.generate(ids(), **GREEDY)
    assert [used(one) for one in compressions] == [None, FEW_TOKENS], "the newest block is used"
    blocks[first_out].__exit__(None, None, None)
    stays = compressions[1 - first_out]
    stays.cache = None
    model.generate(ids(), **GREEDY)
    assert used(stays) is not None
    blocks[1 - first_out].__exit__(None, None, None)
    assert is_itself(model)
    stays.cache = None
    model.generate(ids(), **GREEDY)
    assert used(stays) is None


def test_every_thread_has_its_own_configuration(tiny: Tiny, ids: Ids) -> None:
    model, prompt = tiny("llama"), ids()
    alone = {}
    for config in (EIGHT_BITS, FEW_TOKENS):
        with autokv.compress(model, config):
            alone[config.digest] = model.generate(prompt, **GREEDY).tolist()
    together = Barrier(6, timeout=60)

    def work(config: CompressionConfig) -> None:
        together.wait()
        for _ in range(4):
            with autokv.compress(model, config) as compression:
                text = model.generate(prompt, **GREEDY).tolist()
            assert used(compression) == config
            assert text == alone[config.digest]

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, [EIGHT_BITS, FEW_TOKENS] * 3))
    assert is_itself(model)


def test_a_thread_without_a_block(tiny: Tiny, ids: Ids) -> None:
    """A streamer's thread, say: it takes the only block; between several it cannot choose."""
    model = tiny("llama")
    found: list[BaseException | None] = []

    def generate(**options: object) -> None:
        try:
            model.generate(ids(), **GREEDY, **options)
            found.append(None)
        except RequestError as error:
            found.append(error)

    def elsewhere(**options: object) -> BaseException | None:
        thread = Thread(target=generate, kwargs=options)
        thread.start()
        thread.join()
        return found.pop()

    with autokv.compress(model, EIGHT_BITS) as first:
        assert elsewhere() is None
        assert used(first) == EIGHT_BITS
        with autokv.compress(model, FEW_TOKENS):
            refused = elsewhere()
            assert isinstance(refused, RequestError)
            assert "past_key_values=CompressedCache.from_config" in str(refused)
            cache = CompressedCache.from_config(model, FEW_TOKENS)
            assert elsewhere(past_key_values=cache) is None
            assert cache.get_seq_length() == 50 + 7
            assert elsewhere(use_cache=False) is None
    assert is_itself(model)


def test_tasks_of_one_thread_do_not_see_each_others_blocks(tiny: Tiny, ids: Ids) -> None:
    model = tiny("llama")

    async def work(config: CompressionConfig) -> CompressionConfig | None:
        with autokv.compress(model, config) as compression:
            await asyncio.sleep(0)
            model.generate(ids(), **GREEDY)
            await asyncio.sleep(0)
        return used(compression)

    async def both() -> list[CompressionConfig | None]:
        return [*await asyncio.gather(work(EIGHT_BITS), work(FEW_TOKENS))]

    assert asyncio.run(both()) == [EIGHT_BITS, FEW_TOKENS]
    assert is_itself(model)


def test_a_block_that_cannot_open_changes_nothing(tiny: Tiny, ids: Ids) -> None:
    model = tiny("llama")
    wrong = CompressionConfig.parse({"pipeline": {"low_rank": {"method": "latent", "key_rank": 99, "value_rank": 0}}})
    with pytest.raises(ConfigError), autokv.compress(model, wrong):
        pass
    assert is_itself(model)
    with autokv.compress(model, EIGHT_BITS) as compression:
        with pytest.raises(ConfigError), autokv.compress(model, wrong):
            pass
        model.generate(ids(), **GREEDY)
        assert used(compression) == EIGHT_BITS
    assert is_itself(model)


def test_a_generation_without_a_cache_gets_none(tiny: Tiny, ids: Ids) -> None:
    model = tiny("llama")
    with autokv.compress(model, EIGHT_BITS) as compression:
        model.generate(ids(), use_cache=False, **GREEDY)
        assert compression.cache is None


def test_a_configuration_that_switches_the_cache_off_is_no_silent_generation_in_full(tiny: Tiny, ids: Ids) -> None:
    model = tiny("llama")
    without = GenerationConfig(max_new_tokens=4, use_cache=False, eos_token_id=None, pad_token_id=2)
    with autokv.compress(model, EIGHT_BITS) as compression:
        for call in (
            lambda: model.generate(ids(), generation_config=without),
            lambda: model.generate(ids(), without),
        ):
            with pytest.raises(RequestError, match="use_cache=True to generate") as caught:
                call()
            assert caught.value.field == "generation_config.use_cache"
        model.generate(ids(), generation_config=without, use_cache=True)
        assert used(compression) == EIGHT_BITS
        model.generation_config.use_cache = False
        with pytest.raises(RequestError, match="nothing would be compressed"):
            model.generate(ids(), **GREEDY)
