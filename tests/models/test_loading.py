"""Loading: what comes back is the model that was saved, and nothing unsafe or broken comes back at all."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from autokv.errors import ModelError, RequestError
from autokv.models import inspect, load
from autokv.models.placement import choose_dtype

Edit = Callable[..., None]


def test_the_saved_model_comes_back_ready_to_evaluate(folder: Path) -> None:
    loaded = load(str(folder))
    assert (loaded.name, loaded.device.type, loaded.dtype) == ("tiny-llama", "cpu", torch.float32)
    assert loaded.facts == inspect(str(folder))
    assert not loaded.model.training
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())
    saved = load_file(folder / "model.safetensors")
    weights = loaded.model.state_dict()
    assert all(torch.equal(weights[name], tensor) for name, tensor in saved.items())
    text = "Round trip: é 日本"
    assert loaded.tokenizer.decode(loaded.tokenizer(text).input_ids) == text


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_dtype_is_the_one_asked_for(folder: Path, dtype: str) -> None:
    loaded = load(str(folder), dtype=dtype, device="cpu")
    assert loaded.dtype == loaded.model.dtype == getattr(torch, dtype)


@pytest.mark.parametrize(
    ("device", "checkpoint", "expected"),
    [
        ("cpu", torch.bfloat16, torch.float32),
        ("cuda", torch.bfloat16, torch.bfloat16),
        ("cuda", torch.float16, torch.float16),
    ],
)
def test_auto_dtype_follows_device_and_checkpoint(device: str, checkpoint: torch.dtype, expected: torch.dtype) -> None:
    assert choose_dtype("auto", torch.device(device), checkpoint) is expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "int8"}, "dtype: unknown dtype 'int8'"),
        ({"device": "abacus"}, "device: unknown device 'abacus'"),
        ({"device": "meta"}, "device: cannot run on 'meta'"),
        ({"device": "cuda:97"}, "device: 'cuda:97' is not here"),
    ],
)
def test_places_that_do_not_exist(folder: Path, options: dict[str, str], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        load(str(folder), **options)


def _no_config(folder: Path, _edit: Edit) -> None:
    (folder / "config.json").unlink()


def _config_is_text(folder: Path, _edit: Edit) -> None:
    (folder / "config.json").write_text("{not json")


def _config_is_deep(folder: Path, _edit: Edit) -> None:
    (folder / "config.json").write_text("[" * 200_000)


def _config_is_list(folder: Path, _edit: Edit) -> None:
    (folder / "config.json").write_text("[]")


def _config_is_huge(folder: Path, _edit: Edit) -> None:
    with (folder / "config.json").open("r+b") as file:
        file.truncate((64 << 20) + 1)


def _only_pickle(folder: Path, _edit: Edit) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def _only_pth(folder: Path, _edit: Edit) -> None:
    (folder / "model.safetensors").rename(folder / "consolidated.00.pth")


def _remote_code(folder: Path, edit: Edit) -> None:
    edit(folder / "config.json", auto_map={"AutoModelForCausalLM": "modeling_evil.EvilForCausalLM"})


def _remote_code_type(folder: Path, edit: Edit) -> None:
    edit(folder / "config.json", model_type="evil", auto_map={"AutoConfig": "configuration_evil.EvilConfig"})


def _remote_tokenizer(folder: Path, edit: Edit) -> None:
    edit(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["tokenization_evil.EvilTokenizer", None]})


def _adapter(folder: Path, _edit: Edit) -> None:
    (folder / "adapter_config.json").write_text("{}")


def _truncated(folder: Path, _edit: Edit) -> None:
    with (folder / "model.safetensors").open("r+b") as file:
        file.truncate(file.seek(0, 2) // 2)


def _empty_weights(folder: Path, _edit: Edit) -> None:
    (folder / "model.safetensors").write_bytes(b"")


def _lost_tensor(folder: Path, _edit: Edit) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors.pop("model.layers.1.mlp.down_proj.weight")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def _other_shape(folder: Path, edit: Edit) -> None:
    edit(folder / "config.json", intermediate_size=100)


def _lost_shard(folder: Path, _edit: Edit) -> None:
    index = {"metadata": {}, "weight_map": {"a": "model.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def _empty_index(folder: Path, _edit: Edit) -> None:
    (folder / "model.safetensors.index.json").write_text("{}")


def _no_weights(folder: Path, _edit: Edit) -> None:
    (folder / "model.safetensors").unlink()


def _no_tokenizer(folder: Path, _edit: Edit) -> None:
    for file in folder.glob("*token*"):
        file.unlink()


BROKEN: dict[Callable[[Path, Edit], None], str] = {
    _no_config: "has no config.json",
    _config_is_text: "config.json is not JSON",
    _config_is_deep: "config.json is not JSON",
    _config_is_list: "config.json is not a JSON object",
    _config_is_huge: "config.json is larger than",
    _only_pickle: "only pickle checkpoints (pytorch_model.bin), which can run code; convert the weights to safetensors",
    _only_pth: "only pickle checkpoints (consolidated.00.pth)",
    _remote_code: "needs code of its own (modeling_evil.EvilForCausalLM in config.json)",
    _remote_code_type: "needs code of its own (configuration_evil.EvilConfig in config.json)",
    _remote_tokenizer: "needs code of its own (tokenization_evil.EvilTokenizer in tokenizer_config.json)",
    _adapter: "is an adapter",
    _truncated: "model.safetensors is truncated or corrupt",
    _empty_weights: "model.safetensors is truncated or corrupt",
    _lost_tensor: "the weights lack model.layers.1.mlp.down_proj.weight",
    _other_shape: "the weights cannot be read",
    _lost_shard: "lacks model-00002-of-00002.safetensors",
    _empty_index: "names no weights",
    _no_weights: "has no safetensors weights",
    _no_tokenizer: "the tokenizer cannot be read",
}


@pytest.mark.parametrize("spoil", BROKEN, ids=lambda spoil: spoil.__name__)
def test_a_broken_or_unsafe_folder_is_one_line(
    folder: Path, edit: Edit, spoil: Callable[[Path, Edit], None], capfd: pytest.CaptureFixture[str]
) -> None:
    (folder / "modeling_evil.py").write_text(f"open({str(folder / 'ran')!r}, 'w')")
    spoil(folder, edit)
    with pytest.raises(ModelError) as refusal:
        load(str(folder))
    assert BROKEN[spoil] in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert capfd.readouterr() == ("", "")
    assert not (folder / "ran").exists()


@pytest.mark.parametrize("spoil", [_only_pickle, _remote_code, _remote_tokenizer], ids=lambda spoil: spoil.__name__)
def test_inspect_refuses_what_load_refuses_as_unsafe(
    folder: Path, edit: Edit, spoil: Callable[[Path, Edit], None]
) -> None:
    spoil(folder, edit)
    with pytest.raises(ModelError):
        inspect(str(folder))


def test_inspect_needs_no_weights(folder: Path) -> None:
    facts = inspect(str(folder))
    (folder / "model.safetensors").unlink()
    assert inspect(str(folder)) == replace(facts, revision=None)


def test_auto_map_to_classes_that_transformers_has_is_no_remote_code(folder: Path, edit: Edit) -> None:
    """Phi-3 and others kept the map to the code that they had before transformers implemented them."""
    edit(folder / "config.json", auto_map={"AutoModelForCausalLM": "modeling_llama.LlamaForCausalLM"})
    assert load(str(folder)).facts.architecture == "LlamaForCausalLM"


def test_pickles_beside_safetensors_are_not_read(folder: Path) -> None:
    (folder / "pytorch_model.bin").write_bytes(b"not a checkpoint")
    (folder / "training_args.bin").write_bytes(b"not a pickle")
    assert load(str(folder)).facts.layers == 3


def test_loading_is_silent(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    load(str(folder))
    assert capfd.readouterr() == ("", "")
