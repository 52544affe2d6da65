"""How long ``autokv demo`` takes, and how much memory, from the start of the process to the written report."""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from autokv.config import ConfigurationDocument
from autokv.models import demo_model_path
from common import write_result


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
        recommended = ConfigurationDocument.load(Path(folder) / "autokv-results" / "recommended.json")
    gib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    print(f"{options.trials} trials in {seconds / 60:.1f} min, at most {gib:.2f} GiB")
    result = {
        "trials": options.trials,
        "seconds": seconds,
        "max_rss_gib": gib,
        "recommended": recommended.model_dump(mode="json", include={"pipeline", "measured", "validated"}),
    }
    print(f"written to {write_result('demo', result)}")


if __name__ == "__main__":
    main()
