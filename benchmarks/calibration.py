"""How well costs that are fitted to a real server's log foresee the requests that were held out.

The log (``--runs``; ``--kv-tokens``, ``--max-num-seqs`` and ``--max-num-batched-tokens`` say how its server was set up)
is that of vLLM 0.19 serving Llama 3.1 8B in bfloat16 on one RTX PRO 6000 Blackwell Server Edition, published with
LLMServingSim (https://github.com/casys-kaist/LLMServingSim, bench/examples/RTXPRO6000/Llama-3.1-8B): 300 ShareGPT
requests at 10 a second. Costs are fitted to the first third, half and two thirds of them.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from unittest.mock import patch

import numpy as np

from autokv.serving import Outcome, SequenceBytes, ServingOptions, simulate
from autokv.serving import calibration as method
from autokv.serving.server_log import ServerLog, read_log
from common import write_result

BYTES_PER_TOKEN = 131_072
SHARES = {"a third": 1 / 3, "half": 1 / 2, "two thirds": 2 / 3}


def percentiles(values: np.ndarray) -> dict[str, float]:
    return {f"p{part}": float(np.nanpercentile(values, part)) for part in (5, 50, 95)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, required=True, help="the log")
    parser.add_argument("--kv-tokens", type=int, default=574_608)
    parser.add_argument("--max-num-seqs", type=int, default=128)
    parser.add_argument("--max-num-batched-tokens", type=int, default=2048)
    given = parser.parse_args()
    log = read_log(given.runs)
    options = ServingOptions(max_num_batched_tokens=given.max_num_batched_tokens, max_num_seqs=given.max_num_seqs)
    capacity, sequence = float(given.kv_tokens * BYTES_PER_TOKEN), SequenceBytes(float(BYTES_PER_TOKEN))
    fits = {}
    for name, share in SHARES.items():
        start = time.perf_counter()
        with patch.object(method, "FITTED_SHARE", share):
            found = method.calibrate(log, options, capacity, sequence)
        fits[name] = {**found.to_dict(), "seconds": time.perf_counter() - start}
        print(f"{name}: {found.words}")
    chosen = method.calibrate(log, options, capacity, sequence)
    outcome = simulate(log.trace, chosen.costs.cost_model(sequence, ""), capacity, options)
    result = {
        "source": "https://github.com/casys-kaist/LLMServingSim, bench/examples/RTXPRO6000/Llama-3.1-8B/vllm",
        "requests": len(log.trace),
        "options": vars(options) | {"kv_tokens": given.kv_tokens},
        "in_flight_limit_found": log.in_flight_limit,
        "fits": fits,
        "all_requests": compared(log, outcome),
    }
    print(f"written to {write_result('calibration', result)}")


def compared(log: ServerLog, outcome: Outcome) -> dict[str, dict[str, dict[str, float]]]:
    """Percentiles of the log and of the simulation beside them, seconds."""
    return {
        "ttft_s": {"log": percentiles(log.ttft_s), "simulated": percentiles(outcome.ttft_s)},
        "tpot_s": {"log": percentiles(log.tpot_s), "simulated": percentiles(outcome.tpot_s)},
    }


if __name__ == "__main__":
    main()
