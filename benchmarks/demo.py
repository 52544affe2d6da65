"""How long ``autokv demo`` takes, and how much memory, from the start of the process to the written report."""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from autokv.config import CompressionConfig
from autokv.models import demo_model_path
from autokv.report import describe
from common import RESULTS, write_result

SHOWN = (
    "kl_divergence",
    "negative_sample_rate",
    "kv_bytes_per_token",
    "compression_ratio",
    "attention_us",
    "attention_baseline_us",
    "ttft_ms",
    "tpot_ms",
    "goodput_requests_per_s",
    "concurrent_requests",
    "sustained_requests_per_s",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=60)
    options = parser.parse_args()
    demo_model_path()  # converted once, outside the clock
    command = [str(Path(sys.executable).parent / "autokv"), "demo", "--trials", str(options.trials)]
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        subprocess.run(command, cwd=folder, check=True)
        seconds = time.perf_counter() - began
        written = Path(folder) / "autokv-results"
        front = json.loads((written / "pareto.json").read_text(encoding="utf-8"))
        recommended = json.loads((written / "recommended.json").read_text(encoding="utf-8"))
        shutil.copy(written / "front.svg", RESULTS / "demo.svg")
    gib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    print(f"{options.trials} trials in {seconds / 60:.1f} min, at most {gib:.2f} GiB")
    result = {
        "trials": options.trials,
        "seconds": seconds,
        "max_rss_gib": gib,
        "serving": {key: recommended["serving"][key] for key in ("requests_per_s", "slo", "gains", "verdict")},
        "decision": recommended["provenance"]["decision"],
        "front": [
            {
                "configuration": describe(CompressionConfig.parse(point["config"])),
                "digest": point["digest"],
                "roles": point["roles"],
                "validation": {
                    name: found["mean"] for name in SHOWN if (found := point["validation"]["metrics"].get(name))
                },
            }
            for point in front
        ],
    }
    print(f"written to {write_result('demo', result)}")


if __name__ == "__main__":
    main()
