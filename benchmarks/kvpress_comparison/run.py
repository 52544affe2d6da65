"""Judge the same methods on the same prompts with AutoKV and with kvpress 0.5.5, taking turns in one run.

kvpress caps transformers below 5.3, so it lives in an environment of its own, made on the first run. Both sides use
the same weights, token ids, float32 and number of threads. kvpress is charged its fastest form: the prefill without
logits, and the continuation in one forward pass; its reference and its KL are not. AutoKV is charged everything it
does to judge a configuration, quality metrics included; its one prefill per prompt is reported beside it, and once
more shared over the trials of a search.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from autokv.data import builtin_text
from autokv.models import demo_model_path
from common import percentiles, write_result
from wire import Worker

HERE = Path(__file__).parent
ENVIRONMENT = HERE.parent / ".venv-kvpress"
REQUIREMENTS = ("kvpress==0.5.5", "transformers<5.3", "torch==2.13.0")
METHODS = ("snapkv", "knorm", "keydiff", "tova", "streaming_llm", "expected_attention", "lagkv")
TRIALS = 60
"""Over how many trials a search shares a prefill: the demo's."""


def kvpress_python() -> Path:
    """The interpreter of kvpress' environment, which is made where it is missing."""
    python = ENVIRONMENT / "bin" / "python"
    stamp = ENVIRONMENT / "installed"
    wanted = "\n".join(REQUIREMENTS)
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != wanted:
        subprocess.run([sys.executable, "-m", "venv", str(ENVIRONMENT)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *REQUIREMENTS], check=True)
        stamp.write_text(wanted, encoding="utf-8")
    return python


def compare(autokv: Worker, kvpress: Worker, options: argparse.Namespace) -> list[dict[str, Any]]:
    """One row per (context length, prompt, kept share, method), both sides' seconds and KL."""
    rows = []
    for context_tokens in options.context_tokens:
        lengths = {"context_tokens": context_tokens, "continuation_tokens": options.continuation_tokens}
        prompts = autokv.ask("prompts", text=str(options.text.resolve()), count=options.prompts, **lengths)
        for number, prompt in enumerate(prompts):
            ids = {"context": prompt["context"], "continuation": prompt["continuation"]}
            prefill = {
                "autokv_prefill_seconds": autokv.ask("prompt", **ids)["prefill_seconds"],
                "kvpress_prefill_seconds": kvpress.ask("prompt", **ids)["prefill_seconds"],
            }
            for keep_ratio in options.keep_ratios:
                shared = autokv.ask("run", methods=METHODS, keep_ratio=keep_ratio)["seconds"] / len(METHODS)
                for turn, method in enumerate(METHODS):
                    row = take_turns(autokv, kvpress, method, keep_ratio, autokv_first=(number + turn) % 2 == 0)
                    facts = {"context_tokens": context_tokens, "prompt": number, "keep_ratio": keep_ratio}
                    rows.append({**facts, "method": method, **prefill, "autokv_shared_seconds": shared, **row})
                    print(
                        f"{context_tokens:6} tokens  prompt {number}  keep {keep_ratio:4}  {method:18}"
                        f"  kvpress {row['kvpress_seconds']:7.3f} s  autokv {row['autokv_seconds']:7.3f} s",
                        flush=True,
                    )
    return rows


def take_turns(
    autokv: Worker, kvpress: Worker, method: str, keep_ratio: float, *, autokv_first: bool
) -> dict[str, float]:
    """One (method, prompt) on both sides, one after the other; the order alternates."""

    def ours() -> dict[str, float]:
        answer = autokv.ask("run", methods=[method], keep_ratio=keep_ratio)
        ratio = answer["compression_ratio"][0]
        return {"autokv_seconds": answer["seconds"], "autokv_kl": answer["kl"][0], "autokv_compression_ratio": ratio}

    def theirs() -> dict[str, float]:
        answer = kvpress.ask("run", method=method, keep_ratio=keep_ratio)
        kept = statistics.mean(tokens for _, tokens in answer["kept_heads_tokens"])
        return {"kvpress_seconds": answer["seconds"], "kvpress_kl": answer["kl"], "kvpress_kept_tokens": kept}

    turns = (ours, theirs) if autokv_first else (theirs, ours)
    return {name: value for turn in turns for name, value in turn().items()}


def summarize(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Per context length: how many times less AutoKV takes, one configuration at a time, shared and amortized."""
    summary = []
    for context_tokens in sorted({row["context_tokens"] for row in rows}):
        chosen = [row for row in rows if row["context_tokens"] == context_tokens]
        summary.append(
            {
                "context_tokens": context_tokens,
                "kvpress_seconds": percentiles([row["kvpress_seconds"] for row in chosen]),
                "autokv_seconds": percentiles([row["autokv_seconds"] for row in chosen]),
                "times_less": percentiles([row["kvpress_seconds"] / row["autokv_seconds"] for row in chosen]),
                "times_less_shared": percentiles(
                    [row["kvpress_seconds"] / row["autokv_shared_seconds"] for row in chosen]
                ),
                "times_less_with_prefill": percentiles(
                    [
                        row["kvpress_seconds"] / (row["autokv_shared_seconds"] + row["autokv_prefill_seconds"] / TRIALS)
                        for row in chosen
                    ]
                ),
                "kl_ratio": {method: kl_ratios(chosen, method) for method in METHODS},
            }
        )
    return summary


def kl_ratios(rows: list[dict[str, Any]], method: str) -> dict[str, float]:
    """Mean KL of AutoKV over mean KL of kvpress, by kept share."""
    ratios = {}
    for keep_ratio in sorted({row["keep_ratio"] for row in rows}):
        chosen = [row for row in rows if row["method"] == method and row["keep_ratio"] == keep_ratio]
        theirs = sum(row["kvpress_kl"] for row in chosen)
        ratios[str(keep_ratio)] = sum(row["autokv_kl"] for row in chosen) / theirs
    return ratios


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, default=builtin_text(), help="real text, cut into samples")
    parser.add_argument("--model", type=Path, help="folder with safetensors weights (default: the demo model)")
    parser.add_argument("--context-tokens", type=int, nargs="+", default=[1024, 4096])
    parser.add_argument("--continuation-tokens", type=int, default=64)
    parser.add_argument("--keep-ratios", type=float, nargs="+", default=[0.25, 0.5])
    parser.add_argument("--prompts", type=int, default=4)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    options = parser.parse_args()

    folder = str(options.model or demo_model_path())
    kvpress = Worker(kvpress_python(), HERE / "kvpress_worker.py", folder, threads=options.threads)
    autokv = Worker(Path(sys.executable), HERE / "autokv_worker.py", folder, threads=options.threads)
    versions = {"kvpress": kvpress.ask("versions"), "autokv": autokv.ask("versions")}
    rows = compare(autokv, kvpress, options)
    kvpress.close()
    autokv.close()
    settings = {"continuation_tokens": options.continuation_tokens, "dtype": "float32", "threads": options.threads}
    result = {"settings": settings, "environments": versions, "summary": summarize(rows), "rows": rows}
    path = write_result("kvpress_comparison", result)
    print(f"written to {path}")


if __name__ == "__main__":
    main()
