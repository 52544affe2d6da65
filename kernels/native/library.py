"""The compiled kernels, or the reason why there are none."""

from __future__ import annotations

import ctypes
import logging
import os
import stat
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from threading import Lock

import torch

from autokv.files import cache_folder
from autokv.kernels.native import compiler
from autokv.kernels.native.compiler import BUILT_AHEAD
from autokv.kernels.native.structures import Call

_LOG = logging.getLogger(__name__)
_LOCK = Lock()


@dataclass(frozen=True)
class Library:
    """What was compiled and loaded, or why nothing was."""

    decode_attention: Callable[[Call], None] | None
    path: Path | None = None
    """Where it is kept; None if it is not."""
    compiler: str | None = None
    """The version line of the compiler."""
    reason: str | None = None
    """Why there are no compiled kernels."""


def library() -> Library:
    """Compile at first use, then the same for the process; safe to call from several threads."""
    with _LOCK:
        return _library()


@cache
def _library() -> Library:
    return find_library()


def find_library() -> Library:
    """Find a compiler, compile and load; else load what was compiled with the installation; else warn, and say why."""
    try:
        found = compiler.find()
        path, loaded = _load(found)
        return Library(bind(loaded), path, found.version)
    except (compiler.CompilerError, OSError) as error:
        reason = " ".join(str(error).split())
    ahead = compiler.built_ahead(BUILT_AHEAD)
    if ahead is not None:
        try:
            return Library(bind(ctypes.CDLL(str(ahead))), ahead, "the compiler of this installation")
        except OSError as error:
            reason = f"{reason}; {' '.join(str(error).split())}"
    _LOG.warning(
        "attention over compressed keys and values runs in PyTorch, at about half the speed of C: %s; "
        "install a C compiler (gcc or clang), or set CC",
        reason,
    )
    return Library(None, reason=reason)


def bind(loaded: ctypes.CDLL) -> Callable[[Call], None]:
    """The library's decode attention; it runs without holding Python's lock.

    It borrows the threads of the OpenMP runtime that PyTorch computes with, so that no second pool of threads competes
    with them; where there is no such runtime, it runs on one thread.
    """
    native = loaded.autokv_decode_attention
    native.argtypes = [ctypes.POINTER(Call), ctypes.c_void_p]
    native.restype = ctypes.c_int
    parallel = _parallel()

    def decode_attention(call: Call) -> None:
        if native(call, parallel):
            raise MemoryError("no memory for attention over compressed keys and values")

    return decode_attention


def _load(found: compiler.Compiler) -> tuple[Path | None, ctypes.CDLL]:
    """From the cache folder, or from a folder of this process's own if that one does not do."""
    folder = cache_folder("kernels")
    try:
        return _kept(folder, found)
    except (compiler.CompilerError, OSError) as error:
        _LOG.info("compiled kernels are not kept: %s", error)
    # What is loaded stays when its file is gone.
    with tempfile.TemporaryDirectory(prefix="autokv-", ignore_cleanup_errors=True) as private:
        return None, ctypes.CDLL(str(compiler.compiled(Path(private), found)))


def _kept(folder: Path, found: compiler.Compiler) -> tuple[Path, ctypes.CDLL]:
    if not _trusted(folder):
        raise PermissionError(f"others may write to {folder}")
    path = compiler.compiled(folder, found)
    try:
        return path, ctypes.CDLL(str(path))
    except OSError:
        # A damaged file: once more.
        path.unlink(missing_ok=True)
        return path, ctypes.CDLL(str(compiler.compiled(folder, found)))


def _trusted(folder: Path) -> bool:
    """Whether nobody else can put a library into ``folder``, which is made if it is not there."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if os.name != "posix":
        return True
    found = folder.stat()
    return found.st_uid in (0, os.getuid()) and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _parallel() -> int | None:
    """The address of ``GOMP_parallel`` as PyTorch's own library resolves it."""
    for path in sorted((Path(torch.__file__).parent / "lib").glob("libtorch_cpu.*")):
        try:
            return ctypes.cast(ctypes.CDLL(str(path)).GOMP_parallel, ctypes.c_void_p).value
        except (AttributeError, OSError):
            continue
    return None
