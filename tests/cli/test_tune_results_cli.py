"""What ``autokv tune`` leaves behind: a result for programs, hints that run, files that the other commands take."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from autokv.config import ConfigurationDocument
from autokv.storage import Database
from autokv.tuning.request import TuningRequest, read_request_file

Run = Callable[..., tuple[int, str, str]]
SMALL = ["--samples", 2, "--validation-samples", 2, "--context-tokens", 192, "--continuation-tokens", 16]
SMALL += ["--no-tasks"]
URL = "sqlite:///other.db"


def test_the_files_of_a_run_are_what_the_other_commands_take(
    autokv: Run, tiny_model_folder: Callable[..., Path], tmp_path: Path
) -> None:
    model = Path(os.path.relpath(tiny_model_folder("llama"), tmp_path))  # as a user names it
    places = ["--output", "found here", "--database", URL]
    options = [*SMALL, "--trials", 4, "--max", "kl_divergence=50", "--space", "quantization-only", "--seed", 5]
    code, out, err = autokv("tune", "--model", model, *options, *places, "--json", "--quiet")
    assert code == 0, err
    assert err == ""
    told = json.loads(out)
    folder = tmp_path / "found here"
    assert {name: Path(path) for name, path in told["files"].items()} == {
        path.name: Path("found here") / path.name for path in folder.iterdir()
    }
    assert {"python", "autokv", "torch", "transformers"} <= told["versions"].keys()
    recommended = ConfigurationDocument.load(folder / "recommended.json")
    assert told["recommended"] == recommended.digest
    assert recommended.digest in {point["digest"] for point in told["front"]}
    assert told["reason"]

    # The request beside the results asks the same again.
    with Database(URL, create=False) as database:
        (job,) = database.jobs.list()
    assert told["job"] == job.id
    assert TuningRequest.parse(read_request_file(folder / "request.yaml")) == job.request
    assert job.request.seed == 5

    # The configuration says what to load, from any folder and in any spelling.
    assert recommended.model is not None
    assert recommended.model["source"] == str(tiny_model_folder("llama"))
    assert recommended.model["revision"].startswith("weights-")
    written = tmp_path / "c.yaml"
    written.write_text(yaml.safe_dump(recommended.model_dump(mode="json")))
    code, out, err = autokv("config", "validate", written)
    assert (code, recommended.digest in out) == (0, True), err
    code, out, err = autokv("generate", "--config", written, "--prompt", "x" * 80, "--max-new-tokens", 2)
    assert code == 0, err
    assert "compressed" in out

    # Every hint runs as it is printed.
    code, out, err = autokv("tune", "--resume", job.id, *places)
    assert code == 0, err
    (hint,) = re.findall(r"^`autokv (generate .*)` runs the model with it$", out, re.MULTILINE)
    code, out, err = autokv(*shlex.split(hint), "--max-new-tokens", 2)
    assert code == 0, err
    code, out, err = autokv("jobs", "show", job.id, "--database", URL)
    assert code == 0, err
    (listed,) = re.findall(r"autokv (configs list .*)", out)
    code, out, err = autokv(*shlex.split(listed))
    assert code == 0, err
    assert recommended.digest[:12] in out


def test_a_stopped_run_tells_the_command_that_goes_on(
    autokv: Run, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from autokv.cli.progress import TuningProgress

    def stop(_: TuningProgress, __: object) -> None:
        os.kill(os.getpid(), 2)

    options = [*SMALL, "--trials", 3, "--batch-size", 1, "--space", "quantization-only", "--max", "kl_divergence=50"]
    with monkeypatch.context() as patched:
        patched.setattr(TuningProgress, "batch", stop)
        code, _, err = autokv("tune", "--model", model, *options, "--database", URL, "--output", "my results")
    assert code == 130
    (command,) = re.findall(r"go on with `autokv ([^`]+)`", err)
    code, out, err = autokv(*shlex.split(command))
    assert code == 0, err
    assert "my results/recommended.json" in out
    assert (tmp_path / "my results" / "recommended.json").exists()


@pytest.mark.parametrize("quiet", [False, True])
def test_what_is_not_found_has_a_code_of_its_own(autokv: Run, model: Path, tmp_path: Path, quiet: bool) -> None:
    options = [*SMALL, "--trials", 2, "--max", "kl_divergence=1e-12", "--space", "quantization-only"]
    code, out, err = autokv("tune", "--model", model, *options, "--json", *(["-q"] if quiet else []))
    assert code == 3, err
    assert json.loads(out)["recommended"] is None
    assert bool(err) != quiet
    assert not (tmp_path / "autokv-results" / "recommended.json").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--device", "cuda:99"], "cuda:99"),
        (["--device", "gpu"], "use auto, cpu, cuda or cuda:N"),
        (["--hardware", "h100-smx", "--workload", "t.csv"], "did you mean h100-sxm"),
        (["--scenario", "multi_trun", "--workload", "t.csv"], "did you mean multi-turn?"),
        (["--space", "quantisation-only"], "did you mean quantization-only"),
        (["--objective", "kl"], "unknown metric 'kl'"),
        (["--objective", "kl_divergance"], "did you mean kl_divergence?"),
        (["--max", "kl_divergance=1"], "did you mean kl_divergence?"),
        (["--sampler", "tep"], "did you mean tpe?"),
        (["--prompts", "broken.jsonl"], "broken.jsonl:1"),
        (["--text", "nowhere.txt"], "nowhere.txt"),
        (["--output", "t.csv"], "t.csv: is not a folder"),
        (["--output", "t.csv/below"], "is not a folder"),
        (["--output", "/proc/none"], "/proc/none: cannot be written to"),
        (["typed.yaml"], "typed.yaml: modle: there is no such field"),
    ],
)
def test_a_mistake_is_told_before_a_model_is_loaded(
    autokv: Run, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], says: str
) -> None:
    def load(*_: object, **__: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("autokv.runs.preparing.load", load)
    (tmp_path / "t.csv").write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.97,100,20\n")
    (tmp_path / "broken.jsonl").write_text('{"prompt": "a"\n')
    (tmp_path / "typed.yaml").write_text("modle: m\n")
    code, out, err = autokv("tune", "--model", model, *options)
    assert code == 2, err
    assert out == ""
    assert says in err
    assert err.count("error: ") == 1
    assert len(err.splitlines()) <= 3
