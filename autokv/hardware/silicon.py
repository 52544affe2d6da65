"""``SiliconTables``: kernel times of a device, measured by others, as ``aiconfigurator-core`` carries them.

The package (NVIDIA, Apache-2.0; ``pip install "autokv[silicon]"``) has a folder per device, operation, framework and
version, with a Parquet table of milliseconds each. Only the tables are read; nothing of the package runs. vLLM's are
taken, and SGLang's or TensorRT-LLM's where vLLM has none.
"""

from __future__ import annotations

import importlib.util
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from autokv.hardware import catalog
from autokv.hardware.profile import HardwareProfile

PACKAGE = "aiconfigurator_core"
FRAMEWORKS = ("vllm", "sglang", "trtllm")
MILLI = 1e-3
_GEMM, _PREFILL, _DECODE = (
    "gemm/{}/gemm_perf.parquet",
    "attention/{}/context_attention_perf.parquet",
    "attention/{}/generation_attention_perf.parquet",
)

Times = list[tuple[float, float]]
"""(Tokens, seconds), ascending."""


@dataclass(frozen=True)
class SiliconTables:
    """Measured kernel times of one device under one framework, 16-bit weights and arithmetic.

    Args:
        folder: the device's, with a folder per operation.
        framework: ``FRAMEWORK/VERSION``, as folders are named.
        bandwidth: bytes per second that what is not in the tables moves at.
        launch: seconds that such an operation takes at least.
        source: the package with its version.
    """

    folder: Path
    framework: str
    bandwidth: float
    launch: float
    source: str = PACKAGE

    @property
    def words(self) -> str:
        """What was measured with what, for a sentence on where figures come from."""
        import pyarrow.parquet

        name, _, number = self.framework.partition("/")
        table = pyarrow.parquet.read_table(self.folder / _GEMM.format(self.framework), columns=["device"])
        return f"{table.column('device')[0]} with {name} {number} ({self.source})"

    def gemm(self, outputs: int, inputs: int) -> Times:
        """Tokens to seconds of their product with a matrix of [outputs, inputs].

        Between the shapes that were measured, times follow a power of either side; beyond the largest, they are in
        proportion.
        """
        tokens, sides, seconds = _gemms(self.folder / _GEMM.format(self.framework))
        rows, columns = (min(max(side, sides[0]), sides[-1]) for side in (outputs, inputs))
        beyond = max(1.0, outputs / sides[-1]) * max(1.0, inputs / sides[-1])
        n, k = (np.interp(np.log(side), np.log(sides), np.arange(len(sides))) for side in (rows, columns))
        corners = [
            (weight_n * weight_k, seconds[:, at_n, at_k])
            for at_n, weight_n in _around(float(n))
            for at_k, weight_k in _around(float(k))
        ]
        found = np.exp(sum(weight * np.log(values) for weight, values in corners)) * beyond
        return [(float(m), float(value)) for m, value in zip(tokens, found, strict=True) if np.isfinite(value)]

    def prefill_attention(self, heads: int, kv_heads: int, head_dim: int) -> Times | None:
        """Tokens of a lone prompt to seconds of one layer's causal attention; None where nothing like it was timed."""
        by_heads: dict[tuple[int, int], Times] = defaultdict(list)
        for row in self._attention(_PREFILL, head_dim, "bfloat16"):
            if row["batch_size"] == 1 and row["step"] == 0 and row["attn_dtype"] == "bfloat16":
                by_heads[row["num_heads"], row["num_key_value_heads"]].append((row["isl"], row["latency"] * MILLI))
        # Arithmetic decides, so that KV heads hardly matter.
        counts = sorted({many for many, _ in by_heads})
        nearest = {
            many: min((kv for count, kv in by_heads if count == many), key=lambda kv: abs(kv - kv_heads))
            for many in counts
        }
        return _between(heads, {many: sorted(by_heads[many, kv]) for many, kv in nearest.items()})

    def decode_attention(
        self, heads: int, kv_heads: int, head_dim: int, kv_dtype: str = "bfloat16"
    ) -> dict[float, Times] | None:
        """Batch to tokens held to seconds of one layer's step; None where nothing like it was timed.

        A kernel works on each KV head of each sequence by itself: other numbers of KV heads are other batches.
        """
        tables: dict[int, dict[int, dict[int, Times]]] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
        for row in self._attention(_DECODE, head_dim, kv_dtype):
            many, kv = row["num_heads"], row["num_key_value_heads"]
            if many % kv == 0:
                tables[kv][many // kv][row["batch_size"]].append((row["step"] + 1, row["latency"] * MILLI))
        fits = [kv for kv in tables if kv <= kv_heads]
        if not fits or heads % kv_heads:
            return None
        nearest = max(fits)
        groups, found = tables[nearest], {}
        for batch in sorted({batch for group in groups.values() for batch in group}):
            points = {many: sorted(group[batch]) for many, group in groups.items() if batch in group}
            times = _between(heads // kv_heads, points)
            if times:
                found[batch * nearest / kv_heads] = times
        return found or None

    def _attention(self, table: str, head_dim: int, kv_dtype: str) -> Iterator[dict[str, Any]]:
        path = self.folder / table.format(self.framework)
        return _best(_rows(path, head_dim=head_dim, kv_cache_dtype=kv_dtype))


def tables_of(profile: HardwareProfile, root: Path | None = None) -> SiliconTables | None:
    """The tables of a device; None without the package, or where it has none for the device.

    Args:
        profile: of the device, a data sheet or measured.
        root: folder with the tables instead of the package's own, ``systems``.
    """
    name, root = catalog.silicon_name(profile), root or _root()
    if name is None or root is None or not (root / f"{name}.yaml").is_file():
        return None
    facts = yaml.safe_load((root / f"{name}.yaml").read_text(encoding="utf-8"))
    folder, gpu = root / facts["data_dir"], facts["gpu"]
    for framework in FRAMEWORKS:
        for number in sorted((folder / "gemm" / framework).glob("*"), key=_version_key, reverse=True):
            label = f"{framework}/{number.name}"
            if all((folder / table.format(label)).is_file() for table in (_GEMM, _PREFILL, _DECODE)):
                return SiliconTables(
                    folder,
                    label,
                    bandwidth=float(gpu["mem_bw"]) * float(gpu.get("mem_bw_empirical_scaling_factor", 0.8)),
                    launch=float(gpu.get("mem_empirical_constant_latency", 3e-6)),
                    source=_source(),
                )
    return None


def tables_installed() -> bool:
    """Whether the package is there."""
    return _root() is not None


def _root() -> Path | None:
    spec = importlib.util.find_spec(PACKAGE)
    return Path(spec.origin).parent / "systems" if spec and spec.origin else None


def _source() -> str:
    try:
        return f"aiconfigurator-core {version('aiconfigurator-core')}"
    except PackageNotFoundError:
        return "aiconfigurator-core"


def _version_key(folder: Path) -> tuple[int, ...]:
    return tuple(int(part) for part in "".join(c if c.isdigit() else " " for c in folder.name).split())


def _around(place: float) -> tuple[tuple[int, float], ...]:
    """The two indices beside ``place`` and their weights."""
    low = int(place)
    share = place - low
    return ((low, 1.0 - share), (low + 1, share)) if share > 1e-9 else ((low, 1.0),)


def _between(wanted: int, tables: dict[int, Times]) -> Times | None:
    """Times of ``wanted`` heads: linear between the numbers that were timed, in proportion beyond the largest."""
    counts = sorted(tables)
    if wanted in tables:
        return tables[wanted]
    if not counts or wanted < counts[0]:
        return tables[counts[0]] if counts else None
    if wanted >= counts[-1]:
        return [(x, y * wanted / counts[-1]) for x, y in tables[counts[-1]]]
    high = next(index for index, many in enumerate(counts) if many > wanted)
    low = counts[high - 1]
    share = (wanted - low) / (counts[high] - low)
    more = dict(tables[counts[high]])
    return [(x, y + (more[x] - y) * share) for x, y in tables[low] if x in more] or None


def _best(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Of what was timed with several kernels the fastest, which is what a framework would take."""
    names = ("batch_size", "isl", "step", "num_heads", "num_key_value_heads", "attn_dtype")
    slowest_first = sorted(rows, key=lambda row: -row["latency"])
    found = {tuple(row[name] for name in names): row for row in slowest_first if not row.get("window_size")}
    return iter(found.values())


@cache
def _rows(path: Path, **wanted: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - a filter of several types
    import pyarrow.parquet

    filters = [(name, "=", value) for name, value in wanted.items()]
    found: list[dict[str, Any]] = pyarrow.parquet.read_table(path, filters=filters).to_pylist()
    return found


@cache
def _gemms(path: Path) -> tuple[NDArray[np.float64], Sequence[float], NDArray[np.float64]]:
    """Tokens; the sides of matrices; seconds of shape [tokens, outputs, inputs], not a number where not timed."""
    import pyarrow.parquet

    columns = ["m", "n", "k", "latency"]
    table = pyarrow.parquet.read_table(path, columns=columns, filters=[("gemm_dtype", "=", "bfloat16")])
    m, n, k, latency = (table.column(name).to_numpy() for name in columns)
    tokens, sides = np.unique(m), np.unique(np.concatenate([n, k]))
    seconds = np.full((len(tokens), len(sides), len(sides)), np.nan)
    seconds[np.searchsorted(tokens, m), np.searchsorted(sides, n), np.searchsorted(sides, k)] = latency * MILLI
    return tokens.astype(float), tuple(float(side) for side in sides), seconds
