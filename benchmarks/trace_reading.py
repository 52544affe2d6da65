"""How fast traces are read, and in how much memory.

The Mooncake conversation trace (``--trace``; without it, a synthesized one with as many requests and block hashes), and
CSV and JSON lines of a million synthesized requests: plain, compressed, with a few bad rows and with almost too many.
Each is read in a process of its own, on one core, whose peak memory is what it says.
"""

from __future__ import annotations

import argparse
import gzip
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from autokv.workload import WorkloadTrace, read_trace, synthesize, write_trace
from process import peak_mib

REQUESTS = 1_000_000
BAD_ROWS = (100, 9_000)
MOONCAKE_REQUESTS, MOONCAKE_BLOCKS = 12_031, 24
MIB = 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trace", type=Path, help="mooncake_conversation.jsonl, or any other trace")
    parser.add_argument("--requests", type=int, default=REQUESTS)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one(Path(options.one))))
        return
    from common import percentiles, write_result  # loads torch, which reading does without

    with tempfile.TemporaryDirectory() as folder:
        files = dict(cases(Path(folder), options.trace, options.requests))
        runs: dict[str, list[dict[str, Any]]] = {name: [] for name in files}
        for _ in range(options.runs):
            for name, path in files.items():
                runs[name].append(_in_a_process(path))
        results = {}
        for name, of_case in runs.items():
            seconds = percentiles([run["seconds"] for run in of_case])
            results[name] = {**of_case[0], "file_mib": files[name].stat().st_size / MIB, "seconds": seconds}
            print(
                f"{name:28} {seconds['p50']:6.2f} s  {of_case[0]['peak_mib']:5.0f} MiB  "
                f"{of_case[0]['requests']:9,} requests  {of_case[0]['bad_rows']:,} bad rows"
            )
    print(write_result("trace_reading", {"one_core": True, "cases": results}))


def one(path: Path) -> dict[str, float]:
    """Read one file, once."""
    before = peak_mib()
    start = time.perf_counter()
    trace = read_trace(path)
    seconds = time.perf_counter() - start
    return {
        "seconds": seconds,
        "requests": len(trace),
        "bad_rows": trace.rejected.count,
        "peak_mib": peak_mib(),
        "peak_mib_before": before,
    }


def cases(folder: Path, mooncake: Path | None, requests: int) -> Iterator[tuple[str, Path]]:
    """(name, file) of everything that is read."""
    if mooncake is None:
        mooncake = folder / "mooncake.jsonl"
        mooncake.write_text("".join(_mooncake_lines()), encoding="utf-8")
    yield "mooncake conversation", mooncake
    trace = _synthesized(requests)
    plain = folder / "azure.csv"
    write_trace(trace, plain)
    yield "CSV", plain
    content = plain.read_bytes()
    for codec, data in (("gzip", gzip.compress(content, 6)), ("zstd", pa.Codec("zstd").compress(content).to_pybytes())):
        packed = folder / f"azure.{codec}"
        packed.write_bytes(data)
        yield f"CSV, {codec}", packed
    for count in BAD_ROWS:
        lines = content.split(b"\n")
        bad = min(count, 9 * requests // 1000)
        for place in np.random.default_rng(0).choice(requests, bad, replace=False) + 1:
            lines[place] = b"damaged"
        damaged = folder / f"{count}.csv"
        damaged.write_bytes(b"\n".join(lines))
        yield f"CSV, {bad:,} bad rows", damaged
    jsonl, parquet = folder / "mooncake_long.jsonl", folder / "trace.parquet"
    write_trace(trace, jsonl)
    yield "JSON lines", jsonl
    write_trace(trace, parquet)
    yield "Parquet", parquet


def _synthesized(requests: int) -> WorkloadTrace:
    return synthesize(
        requests=requests, seed=0, requests_per_s=5.5, input_tokens=(1020, 4142), output_tokens=(129, 601)
    )


def _mooncake_lines() -> Iterator[str]:
    rng = np.random.default_rng(0)
    times = np.sort(rng.integers(0, 3_600_000, MOONCAKE_REQUESTS)).tolist()
    for time_ms, blocks in zip(times, rng.integers(1, 2 * MOONCAKE_BLOCKS, MOONCAKE_REQUESTS).tolist(), strict=True):
        hashes = rng.integers(0, 200_000, blocks).tolist()
        row = {"timestamp": time_ms, "input_length": 512 * blocks, "output_length": 343, "hash_ids": hashes}
        yield json.dumps(row) + "\n"


def _in_a_process(path: Path) -> dict[str, Any]:
    command = [sys.executable, __file__, "--one", str(path)]
    result: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return result


if __name__ == "__main__":
    main()
