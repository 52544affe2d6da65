"""Compile what quantization, compaction and window scores launch for sm_90, without a GPU; see ``sm90.py``."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from autokv.kernels import Rows
from autokv.kernels.evict_gather.triton_gather import evict_gather
from autokv.kernels.quantize_pack.triton_quantize import quantize_float8, quantize_integers
from autokv.kernels.window_scores.triton_scores import window_scores


def beside(name: str) -> ModuleType:
    """The script ``name`` of this folder, which is on no path."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def launch_everything(width: int, dtype: torch.dtype) -> None:
    """Every operation at a size that has full and partial tiles."""
    dense, rows = torch.zeros(8, 300, width, dtype=dtype), Rows(8, 300)
    for rotated in (False, True):
        for bits in (4, 3) if rotated else (8, 4, 3, 2):
            for axis, group_size in (("channel", 64), ("token", 64 if width % 64 == 0 else 16)):
                quantize_integers(dense, rows, bits=bits, axis=axis, group_size=group_size, rotated=rotated)
        quantize_float8(dense, rows, rotated=rotated)
    evict_gather(dense, torch.zeros(8, 50, dtype=torch.int64))
    for softcap in (None, 50.0):
        window_scores(dense[None].repeat(1, 4, 1, 1)[:, :, -64:], dense[None], 0.1, softcap=softcap)


def main(width: int, dtype: str) -> None:
    """One line of JSON a kernel."""
    sm90 = beside("sm90")
    sm90.OPTIONS = (*sm90.OPTIONS, "enable_fp_fusion")
    sm90.TYPES[torch.int32] = "i32"

    def report(kernel: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:  # noqa: ANN401
        if "INTERPRETED" in named:  # as it is for tensors on a GPU
            named["INTERPRETED"] = False
        if "DEPTH" in named:
            named["DEPTH"] = 32
        found = sm90.usage(sm90.compile_launch(kernel, arguments, named))
        what = {name.lower(): named[name] for name in ("BITS", "BLOCK", "SOFTCAP") if name in named}
        print(json.dumps({"kernel": kernel.fn.__name__, **what, **found}), flush=True)

    with sm90.launches(report):
        launch_everything(width, getattr(torch, dtype))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
