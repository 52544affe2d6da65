"""Files on which reading once failed: each is read with the right values, or refused with a command that reads it."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from autokv.errors import WorkloadError
from autokv.workload import WorkloadTrace, read_trace

CASES = Path(__file__).parents[3] / "shared/cases"
FILES = sorted([*(CASES / "traces").glob("*"), *(CASES / "cli").glob("*.csv")]) if CASES.is_dir() else []
TEXTS = {
    "lmsys_conversation", "messages_ultrachat", "mooncake_text_input", "openai_batch_input", "sharegpt_role_content",
    "vllm_custom",
}  # fmt: skip
REFUSED = {"mooncake_seconds_light"} | {
    f"timestamp_{name}" for name in ("12digits", "comma", "minutes", "slash", "utc", "zone4")
}
FIRST: dict[str, tuple[int, list[float], list[int], list[int]]] = {
    "aiperf_multiturn_delay": (6, [0, 0, 1.3849], [42277, 52196, 52196 + 1078 + 3722], [335, 1078, 304]),
    "azure": (2, [0, 1.49007], [2162, 2399], [5, 6]),
    "azure_ts": (2, [0, 1.49007], [2162, 2399], [5, 6]),
    "azure_last_row_zero_no_newline": (39, [0, 0.019646, 0.051465], [4091, 1093, 1014], [46, 396, 392]),
    "burstgpt3_failed_calls_0_0": (382, [0, 51, 82, 144, 250], [906, 36, 1779, 935, 101], [446, 29, 123, 178, 21]),
    "burstgpt3_failed_calls_n_0": (382, [0, 51, 82, 144, 250], [906, 36, 1779, 935, 101], [446, 29, 123, 178, 21]),
    "hash_40_bits": (4, [0, 0.01, 0.02, 0.03], [1024] * 4, [5] * 4),
    "hash_counts_fewer": (4, [0, 1, 2, 3], [4096] * 4, [5] * 4),
    "litellm_spendlogs_iso": (3, [0, 2.333, 4.877], [1000, 1500, 800], [120, 90, 60]),
    "litellm_spendlogs_psql": (3, [0, 2.333, 4.877], [1000, 1500, 800], [120, 90, 60]),
    "llmservingsim_vllm_RTXPRO6000_Llama-3.1-8B": (300, [0, 0.285059, 0.417476], [2358, 1034, 1320], [531, 769, 769]),
    "lmsys_conversation": (6, [0], [20, 86], [54, 43]),
    "messages_ultrachat": (6, [0], [20, 86], [54, 43]),
    "mooncake_blocks_of_16": (200, [0], [6758, 7322, 7236], [500, 490, 794]),
    "mooncake_hash_u64": (2, [0, 0.01], [1024, 1024], [5, 5]),
    "mooncake_seconds_light": (300, [*[0] * 10, 3], [168, 183, 180], [500, 490, 794]),
    "mooncake_text_input": (2, [0, 1], [16, 4], [20, 20]),
    "mooncake_with_session": (4, [0, 5, 6, 9], [1024, 1600, 500, 2100], [50] * 4),
    "openai_batch_input": (2, [0, 0], [20, 20], [100, 100]),
    "openai_usage_nested": (2, [0, 10], [100, 300], [20, 40]),
    "otlp_spans": (1, [0], [100], [50]),
    "sharegpt_role_content": (6, [0], [20, 86], [54, 43]),
    "timestamp_12digits": (2, [0, 4.876543211], [10, 10], [20, 20]),
    "timestamp_comma": (2, [0, 5.077], [10, 10], [20, 20]),
    "timestamp_minutes": (2, [0, 300], [10, 10], [20, 20]),
    "timestamp_slash": (2, [0, 5], [10, 10], [20, 20]),
    "timestamp_utc": (2, [0, 4.976544], [10, 10], [20, 20]),
    "timestamp_zone4": (2, [0, 5], [10, 10], [20, 20]),
    "vllm_bench_result": (3, [0, 0, 0], [100, 200, 300], [10, 20, 30]),
    "vllm_custom": (2, [0, 0], [29, 4], [10, 1520]),
    "lower": (120, [0, 3.109174], [197, 496], [58, 56]),
    "win": (120, [0, 3.109174], [197, 496], [58, 56]),
    "requests": (120, [0, 3.109174], [197, 496], [58, 56]),
}
"""Of a file: its requests, and the first arrivals, inputs and outputs."""


def letters(text: list[str], *, add_special_tokens: bool) -> dict[str, Any]:
    del add_special_tokens
    return {"input_ids": [list(range(len(item))) for item in text]}


def proposed(path: Path) -> dict[str, Any]:
    """The options of the command with which the file's refusal ends."""
    with pytest.raises(WorkloadError) as caught:
        read_trace(path)
    assert len(str(caught.value)) <= 3 * 120 + len(str(path))
    command = re.search("`(.*)`$", str(caught.value))
    assert command is not None
    words = shlex.split(command[1])
    assert words[:4] == ["autokv", "trace", "inspect", str(path)]
    options: dict[str, Any] = {}
    for option, value in zip(words[4::2], words[5::2], strict=True):
        if option == "--column":
            options.setdefault("columns", {}).update([value.split("=", 1)])
        else:
            options[option.removeprefix("--").replace("-", "_")] = letters if option == "--tokenizer" else value
    return options


@pytest.mark.skipif(not FILES, reason="the shared cases are not here")
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_case_is_read_or_refused_with_the_command_that_reads_it(path: Path) -> None:
    options = proposed(path) if path.stem in REFUSED | TEXTS else {}
    assert (path.stem in TEXTS) == ("tokenizer" in options)
    check(read_trace(path, **options), *FIRST[path.stem])


def check(trace: WorkloadTrace, requests: int, arrivals: list[float], inputs: list[int], outputs: list[int]) -> None:
    assert (len(trace), trace.rejected.count) == (requests, 0)
    assert trace.arrival_s[: len(arrivals)].tolist() == pytest.approx(arrivals, abs=1e-6)
    assert trace.input_tokens[: len(inputs)].tolist() == inputs
    assert trace.output_tokens[: len(outputs)].tolist() == outputs
