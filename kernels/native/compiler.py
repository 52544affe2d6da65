"""The C compiler of this machine, and a shared library out of this folder's sources, compiled once."""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from autokv.errors import StorageError
from autokv.files import replacing

SOURCES = Path(__file__).parent
BUILT_AHEAD = SOURCES / "built"
"""In the installation: libraries that were compiled when it was made, for machines without a compiler."""
ENTRY = "attention.c"
TIMEOUT = 120.0
"""Seconds after which a compiler is given up."""
_FLAGS = ("-O3", "-shared", "-fPIC")
# A processor by its own name: x86 takes the first, other processors the second, old compilers neither.
_TUNED = (("-march=native",), ("-mcpu=native",), ())


class CompilerError(Exception):
    """There is no C compiler, or it does not compile the kernels; the message says which."""


@dataclass(frozen=True)
class Variant:
    """A kind of processor that a library can be compiled for ahead."""

    name: str
    flags: tuple[str, ...]
    needs: frozenset[str]
    """Features, as Linux names them in ``/proc/cpuinfo``, without which it does not run."""


_V3 = frozenset({"abm", "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe"})
_V4 = _V3 | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}
VARIANTS = {
    "x86_64": (
        Variant("x86-64-v4-vnni", ("-march=x86-64-v4", "-mavx512vnni"), _V4 | {"avx512_vnni"}),
        Variant("x86-64-v4", ("-march=x86-64-v4",), _V4),
        Variant("x86-64-v3", ("-march=x86-64-v3",), _V3),
        Variant("x86-64", ("-march=x86-64",), frozenset()),
    ),
    "aarch64": (Variant("armv8-a", ("-march=armv8-a",), frozenset()),),
}
"""By machine, fastest first."""


@dataclass(frozen=True)
class Compiler:
    """A C compiler."""

    command: tuple[str, ...]
    version: str
    """First line of what it says of itself."""


def find() -> Compiler:
    """``CC`` if it is set, otherwise the first of ``cc``, ``gcc`` and ``clang`` on the path.

    Raises:
        CompilerError: there is none that runs.
    """
    wanted = os.environ.get("CC")
    for candidate in [wanted] if wanted else ["cc", "gcc", "clang"]:
        command = shlex.split(candidate)
        program = shutil.which(command[0]) if command else None
        if program is None:
            continue
        command = [program, *command[1:]]
        lines = _run([*command, "--version"]).splitlines()
        return Compiler(tuple(command), lines[0].strip() if lines else "")
    raise CompilerError(f"CC names no program: {wanted}" if wanted else "no C compiler is on the path")


def compiled(folder: Path, compiler: Compiler, flags: tuple[str, ...] = ()) -> Path:
    """The library in ``folder``, compiled first unless it is there already.

    Its name holds a digest of the sources, the flags, the compiler and the processor, so that a library never runs on
    another processor than it was made for. Processes that compile at the same time do not disturb each other: each
    writes a file of its own and then gives it the name.

    Raises:
        CompilerError: the compiler refuses, or the folder cannot be written.
    """
    library = folder / f"attention-{_digest(compiler, flags)}.so"
    if not library.exists():
        _compile(compiler, flags, library)
    return library


def build_ahead(folder: Path, compiler: Compiler) -> list[Path]:
    """A library in ``folder`` for every kind of processor that this machine's compiler knows, for machines without one.

    Raises:
        CompilerError: the compiler refuses, or the folder cannot be written.
    """
    made = {_ahead(folder, variant): variant for variant in VARIANTS.get(platform.machine(), ())}
    for target, variant in made.items():
        _compile(compiler, (), target, (variant.flags,))
    return list(made)


def built_ahead(folder: Path) -> Path | None:
    """The fastest library of :func:`build_ahead` in ``folder`` that runs on this processor; None if there is none."""
    features = _features()
    variants = VARIANTS.get(platform.machine(), ())
    paths = (_ahead(folder, variant) for variant in variants if variant.needs <= features)
    return next((path for path in paths if path.exists()), None)


def _ahead(folder: Path, variant: Variant) -> Path:
    return folder / f"attention-{variant.name}-{hashlib.sha256(_sources()).hexdigest()[:16]}.so"


def _features() -> frozenset[str]:
    """What this processor can do beyond its machine's first model."""
    flags = (line.partition(":")[2] for line in _cpuinfo() if line.partition(":")[0].strip() in ("flags", "Features"))
    return frozenset(next(flags, "").split())


def _compile(
    compiler: Compiler, flags: tuple[str, ...], target: Path, processors: tuple[tuple[str, ...], ...] = _TUNED
) -> None:
    """Write ``target`` with the first flags of ``processors`` that the compiler takes."""
    try:
        with replacing(target) as library:
            for tuned in processors:
                command = [*compiler.command, *_FLAGS, *tuned, *flags, str(SOURCES / ENTRY), "-o", str(library), "-lm"]
                try:
                    _run(command)
                except CompilerError:
                    if tuned == processors[-1]:
                        raise
                else:
                    break
    except StorageError as error:
        raise CompilerError(str(error)) from None


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(  # noqa: S603 - the compiler that the user's environment names, on our own sources
            command, capture_output=True, text=True, errors="replace", timeout=TIMEOUT, check=True
        )
    except subprocess.CalledProcessError as error:
        lines = [line for line in error.stderr.splitlines() if "error" in line] or error.stderr.splitlines()
        raise CompilerError(f"{command[0]}: {lines[0] if lines else f'exit status {error.returncode}'}") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CompilerError(f"{command[0]}: {error}") from None
    return done.stdout


def _digest(compiler: Compiler, flags: tuple[str, ...]) -> str:
    digest = hashlib.sha256(_sources())
    for text in (*compiler.command, compiler.version, *_FLAGS, *flags, _processor()):
        digest.update(text.encode() + b"\0")
    return digest.hexdigest()[:24]


def _sources() -> bytes:
    return b"".join(source.read_bytes() for source in sorted(SOURCES.glob("*.[ch]")))


def _processor() -> str:
    """What tells processors with different instructions apart."""
    lines = _cpuinfo()
    if not lines:
        return f"{platform.machine()} {platform.processor()}"
    names = ("model name", "flags", "Features", "CPU implementer", "CPU part")
    return "\n".join(dict.fromkeys(line for line in lines if line.partition(":")[0].strip() in names))


def _cpuinfo() -> list[str]:
    """What Linux tells of the processors; nothing elsewhere."""
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
