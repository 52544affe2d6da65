"""Configurations as people write them, in every command that takes one: it runs, or one line says what to write."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from autokv.data import builtin_text

Run = Callable[..., tuple[int, str, str]]
K4V2 = {
    "quantization": {
        "method": "integer",
        "key": {"bits": 4, "axis": "channel", "group_size": 32},
        "value": {"bits": 2, "axis": "token", "group_size": 16},
        "residual_tokens": 16,
    }
}


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text("All happy families are alike. " * 40)
    return path


def test_the_judged_are_drawn(autokv: Run, model: Path, text: Path, tmp_path: Path) -> None:
    (tmp_path / "full.json").write_text('{"pipeline": {}}')
    (tmp_path / "kivi.yaml").write_text(yaml.safe_dump({"pipeline": K4V2}))
    options = ["--model", model, "--text", text, "--context-tokens", 96, "--continuation-tokens", 8, "--samples", 1]
    for name, files in (("plot.svg", ["kivi.yaml"]), ("new/plot.html", ["full.json", "kivi.yaml"])):
        configs = [part for file in files for part in ("--config", file)]
        code, out, err = autokv("evaluate", *options, *configs, "--plot", name)
        assert code == 0, err
        assert name in out
        # The reference is there once, asked for or not, and is called as in a report.
        assert len(re.findall(r"^16-bit cache  +", out, re.MULTILINE)) == 1
        drawn = (tmp_path / name).read_text()
        assert drawn.count(">16-bit<") == 2, "once in each of two panels"
        assert ">kivi<" in drawn
        assert "<script" not in drawn
    assert drawn.startswith("<!doctype html>")
    assert len(json.loads(autokv("evaluate", *options, "--config", "kivi.yaml", "--json")[1])) == 1


def test_without_prompts_the_text_that_ships_with_autokv_is_taken(autokv: Run, model: Path, tmp_path: Path) -> None:
    (tmp_path / "kivi.yaml").write_text(yaml.safe_dump({"pipeline": K4V2}))
    small = ["--context-tokens", 96, "--continuation-tokens", 8, "--samples", 1, "--json"]
    code, out, err = autokv("evaluate", "--model", model, "--config", "kivi.yaml", *small)
    assert (code, err) == (0, "no prompts are given: judged on the text that ships with AutoKV\n")
    named = autokv("evaluate", "--model", model, "--config", "kivi.yaml", *small, "--text", builtin_text())
    assert (named[0], named[2]) == (0, "")
    ours, theirs = (json.loads(one)[0]["metrics"]["kl_divergence"] for one in (out, named[1]))
    assert ours == theirs
    code, _, err = autokv("evaluate", "--model", model, "--config", "kivi.yaml", "--tasks", "--text", builtin_text())
    assert (code, "give one of --text, --prompts and --tasks" in err) == (2, True)


@pytest.mark.parametrize(
    ("plot", "says"), [("plot.png", ".svg or .html"), (".", "--plot"), ("text.txt/p.svg", "folder")]
)
def test_a_picture_that_cannot_be_written_is_told_before_a_model_is_loaded(
    autokv: Run, text: Path, tmp_path: Path, plot: str, says: str
) -> None:
    (tmp_path / "c.json").write_text("{}")
    code, _, err = autokv("evaluate", "--model", "nobody/none", "--config", "c.json", "--text", text, "--plot", plot)
    assert code == 2
    assert says in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("option", "says"), [("--prompts", "holds requests, not prompts; give it as a workload: "), ("--text", "not UTF-8")]
)
def test_prompts_that_are_none_are_told_before_a_model_is_loaded(
    autokv: Run, tmp_path: Path, option: str, says: str
) -> None:
    (tmp_path / "c.json").write_text("{}")
    (tmp_path / "log.csv").write_bytes(
        b"timestamp,prompt_tokens,completion_tokens\n0,10,20\n" + b"\xff" * (option == "--text")
    )
    code, _, err = autokv("evaluate", "--model", "nobody/none", "--config", "c.json", option, "log.csv")
    assert (code, says in err, len(err.splitlines())) == (2, True, 1)


@pytest.mark.parametrize(
    ("pipeline", "says"),
    [
        (
            {"eviction": {"method": "snapvk", "keep_ratio": 0.5}},
            "eviction.method: 'snapvk' is unknown; did you mean snapkv?",
        ),
        ({"eviction": {"method": "zzz", "keep_ratio": 0.5}}, "choose from none, streaming_llm"),
        ({"eviction": {"method": "knorm", "keep_ratio": 2}}, "pipeline.eviction.keep_ratio"),
        (
            {"evict": {"method": "knorm", "keep_ratio": 0.5}},
            "pipeline.evict: there is no such field; did you mean eviction?",
        ),
    ],
)
@pytest.mark.parametrize(
    "command",
    [
        ["config", "validate", "c.yaml"],
        ["generate", "--config", "c.yaml", "--prompt", "a"],
        ["simulate", "--config", "c.yaml", "--workload", "t.csv"],
        ["evaluate", "--config", "c.yaml", "--model", "m", "--tasks"],
    ],
)
def test_a_mistyped_configuration_is_one_line_that_says_what_was_meant(
    autokv: Run, tmp_path: Path, command: list[str], pipeline: dict[str, Any], says: str
) -> None:
    for spell in (yaml.safe_dump, json.dumps):
        (tmp_path / "c.yaml").write_text(spell({"schema_version": "autokv/v1", "pipeline": pipeline}))
        code, _, err = autokv(*command)
        assert code == 2
        assert says in err
        assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        (None, "c.json: names no model; add --model"),
        ({"name": "smol"}, "c.json: its model smol: is neither a local path nor"),
        ({"name": "smol", "source": "/gone/smol"}, "c.json: its model /gone/smol: no such file or folder; add --model"),
    ],
)
def test_a_model_that_is_not_here_must_be_named(autokv: Run, tmp_path: Path, facts: object, says: str) -> None:
    (tmp_path / "c.json").write_text(json.dumps({"pipeline": K4V2, "model": facts}))
    for command in (["generate", "--prompt", "a"], ["simulate", "--workload", "t.csv"]):
        code, _, err = autokv(*command, "--config", "c.json")
        assert code == 2
        assert says in err
        assert "add --model" in err
        assert len(err.splitlines()) == 1


CASES = Path(__file__).parents[3] / "shared" / "cases" / "cli"


@pytest.mark.skipif(not CASES.is_dir(), reason="the case files are not here")
@pytest.mark.parametrize(
    ("name", "expected"),
    [("c.yaml", "valid"), ("v2.json", "vnorm"), ("vn.json", "vnorm"), ("typo.json", "did you mean snapkv?")],
)
def test_the_case_files_run_or_are_refused_in_a_line(autokv: Run, name: str, expected: str) -> None:
    code, out, err = autokv("config", "validate", CASES / name)
    assert expected in out + err
    assert code == (0 if expected == "valid" else 2)
    assert len((out + err).splitlines()) == 1


@pytest.mark.skipif(not CASES.is_dir(), reason="the case files are not here")
def test_the_case_of_a_space_is_refused_in_a_line(autokv: Run, model: Path) -> None:
    code, _, err = autokv("tune", "--model", model, "--space", CASES / "myspace.yaml", "--trials", 1)
    assert code == 2
    assert "stages.eviction[0].method: 'vnorm' is unknown" in err
    assert len(err.splitlines()) == 1
