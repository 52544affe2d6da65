"""Where a model runs and in which dtype."""

from __future__ import annotations

import torch

from autokv.errors import RequestError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def choose_device(name: str) -> torch.device:
    """``auto`` is CUDA where there is one, else the CPU; else ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        RequestError: no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise RequestError(f"unknown device {name!r}", field="device", remedy="use auto, cpu, cuda or cuda:N") from None
    if device.type not in ("cpu", "cuda"):
        raise RequestError(f"cannot run on {name!r}", field="device", remedy="use auto, cpu, cuda or cuda:N")
    count = torch.cuda.device_count() if device.type == "cuda" else 1
    if (device.index or 0) >= count:
        raise RequestError(f"{name!r} is not here ({count} found)", field="device", remedy="use auto or cpu")
    return device


def choose_dtype(name: str, device: torch.device, checkpoint: torch.dtype | None) -> torch.dtype:
    """``auto`` is float32 on a CPU, else the checkpoint's dtype if that has 16 bits, else the device's better one.

    Raises:
        RequestError: not a dtype that models run in.
    """
    if name in DTYPES:
        return DTYPES[name]
    if name != "auto":
        raise RequestError(f"unknown dtype {name!r}", field="dtype", remedy=f"use auto, {', '.join(DTYPES)}")
    if device.type == "cpu":
        return torch.float32
    if checkpoint in (torch.float16, torch.bfloat16):
        return checkpoint
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
