"""The revision of a model's weights: what it changes with, and what it does not."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from autokv.models import inspect, load
from autokv.models.inspection import SAMPLE_BYTES, SAMPLES, digest_of, revision_of
from autokv.models.source import Source


def test_a_folder_is_named_by_its_weights(folder: Path, tmp_path: Path) -> None:
    first = inspect(str(folder)).revision
    assert first is not None
    assert first.startswith("weights-")
    assert load(str(folder)).facts.revision == first
    copied = Path(shutil.copytree(folder, tmp_path / "another-name"))
    os.utime(copied / "model.safetensors", (0, 0))
    assert inspect(str(copied)).revision == first
    weights = load_file(copied / "model.safetensors")
    save_file({name: tensor + 1e-3 for name, tensor in weights.items()}, copied / "model.safetensors", {"format": "pt"})
    assert inspect(str(copied)).revision not in (None, first)
    (copied / "model.safetensors").unlink()
    assert inspect(str(copied)).revision is None


def test_a_snapshot_of_the_hub_is_named_by_its_commit(tmp_path: Path) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    (tmp_path / commit).mkdir()
    assert revision_of(Source("owner/name", "hub", tmp_path / commit)) == commit
    assert revision_of(Source("name", "folder", tmp_path / commit)) is None


def test_samples_reach_both_ends_of_a_large_file(tmp_path: Path) -> None:
    file = tmp_path / "large.safetensors"
    size = 3 * SAMPLES * SAMPLE_BYTES
    content = bytearray(torch.randint(0, 256, (size,), dtype=torch.uint8).numpy().tobytes())
    found = set()
    for place in (None, 0, size // 2, size - 1):
        changed = bytearray(content)
        if place is not None:
            changed[place : place + 2 * SAMPLE_BYTES] = bytes(len(changed[place : place + 2 * SAMPLE_BYTES]))
        file.write_bytes(changed)
        found.add(digest_of([file]))
    assert len(found) == 4
