"""``autokv export`` and ``autokv evaluate --target``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from autokv.cli.main import app
from autokv.errors import AutoKVError
from autokv.models import demo_model_path

RUNNER = CliRunner()
Q4: dict[str, Any] = {
    "pipeline": {
        "quantization": {
            "method": "format",
            "key": {"format": "q4_0"},
            "value": {"format": "q4_0", "rotation_channels": 64},
        },
        "write": "on_write",
    }
}
KIVI: dict[str, Any] = {
    "pipeline": {
        "eviction": {"method": "snapkv", "keep_ratio": 0.5},
        "quantization": {
            "method": "integer",
            "key": {"bits": 4, "axis": "channel", "group_size": 32},
            "value": {"bits": 4, "axis": "token", "group_size": 32},
        },
    }
}


Written = Callable[[dict[str, Any]], str]


@pytest.fixture
def file(tmp_path: Path) -> Written:
    def written(document: dict[str, Any]) -> str:
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump(document))
        return str(path)

    return written


def run(*arguments: str) -> str:
    result = RUNNER.invoke(app, arguments)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def test_an_exact_export_prints_the_engines_command(file: Written) -> None:
    shown = run("export", file(Q4), "--target", "llama.cpp", "--strict", "--model", str(demo_model_path()))
    assert shown.startswith("llama.cpp (0c1e57098): exact\n")
    assert "--cache-type-k q4_0 --cache-type-v q4_0 --flash-attn on" in shown


def test_a_lost_stage_is_named_and_strict_refuses_it(file: Written) -> None:
    told = json.loads(run("export", file(KIVI), "--target", "vllm", "--json"))
    assert told["level"] == "not_expressible"
    assert {change["stage"] for change in told["changes"]} >= {"eviction", "quantization.key", "write"}
    assert told["held"]["pipeline"]["write"]["rule"] == "on_write"
    with pytest.raises(AutoKVError, match=r"not expressible: eviction, .*leave --strict out"):
        run("export", file(KIVI), "--target", "vllm", "--strict")


def test_strict_refuses_what_the_engine_gets_wrong(file: Written) -> None:
    int8 = {"pipeline": {"quantization": {"method": "format"}, "write": "on_write"}}
    int8["pipeline"]["quantization"] |= {side: {"format": "int8_per_token_head"} for side in ("key", "value")}  # type: ignore[operator]
    run("export", file(int8), "--target", "vllm", "--strict", "--device", "sm90")
    with pytest.raises(AutoKVError, match="noise"):
        run("export", file(int8), "--target", "vllm", "--strict", "--device", "cpu")


def test_files_are_written_to_a_folder(file: Written, tmp_path: Path) -> None:
    folder = tmp_path / "out" / "deep"
    shown = run("export", file(KIVI), "--target", "vllm", "--output", str(folder))
    names = {path.name for path in folder.iterdir()}
    assert names >= {"vllm-serve.sh", "deployment.yaml", "kserve.yaml", "llm-d.yaml", "ray-serve.yaml"}
    assert all(str(folder / name) in shown for name in names)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("export", "CONFIG", "--target", "vlm"), "did you mean vllm"),
        (("export", "CONFIG", "--target", "vllm", "--device", "h100"), "--device"),
        (("export", "CONFIG", "--target", "vllm", "--backend", "NONE"), "--backend"),
        (("evaluate", "--model", "m"), "--config and --engine-args are both missing"),
        (("evaluate", "--model", "m", "--engine-args", "-ctk q4_0"), "give --target"),
        (("evaluate", "--model", "m", "--engine-args", "-ctk q9", "--target", "llama.cpp"), "'q9'"),
        (("evaluate", "--model", "m", "--engine-args", "-ctk 'q9", "--target", "llama.cpp"), "quot"),
        (("evaluate", "--model", "m", "--engine-args", "", "--config", "CONFIG"), "both given"),
    ],
)
def test_what_cannot_be_used_is_named(arguments: tuple[str, ...], words: str, file: Written) -> None:
    given = [file(KIVI) if each == "CONFIG" else each for each in arguments]
    with pytest.raises(AutoKVError) as refused:
        run(*given)
    assert words in str(refused.value)


def test_an_engines_options_are_judged_under_its_rule(file: Written) -> None:
    model, size = str(demo_model_path()), ("--context-tokens", "64", "--continuation-tokens", "4", "--samples", "1")
    options = ("--engine-args", "-ctk q4_0 -ctv q4_0", "--engine-args", "-ctk q8_0 -ctv q8_0")
    four, eight = json.loads(run("evaluate", "--model", model, "--target", "llama.cpp", *options, *size, "--json"))
    losses = [one["metrics"]["kl_divergence"]["mean"] for one in (four, eight)]
    assert losses[0] > losses[1] > 0
    assert four["config"]["pipeline"]["write"]["rule"] == "on_write"
    (held,) = json.loads(
        run("evaluate", "--model", model, "--target", "llama.cpp", "--config", file(Q4), *size, "--json")
    )
    assert held["metrics"]["kl_divergence"]["mean"] == losses[0]
