"""What a shell completes: the names that an option takes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from autokv.config import CompressionConfig, ConfigurationDocument
from autokv.evaluation.measurement import Measurement
from autokv.storage import Database
from autokv.tuning.request import TuningRequest
from autokv.tuning.trial import FrontPoint, TrialRecord, TuningResult

AUTOKV = str(Path(sys.executable).parent / "autokv")


def completed(line: str, **environment: str) -> list[str]:
    """What the completion that ``autokv --install-completion`` sets up for bash is told for ``line``."""
    words = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1), "_AUTOKV_COMPLETE": "complete_bash"}
    result = subprocess.run(
        [AUTOKV], env={**os.environ, **environment, **words}, capture_output=True, text=True, check=False
    )
    assert result.stderr == ""
    return result.stdout.split()


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("autokv tune --space quanti", ["quantization-only"]),
        ("autokv tune --scenario multi", ["multi-turn"]),
        ("autokv tune --hardware h100-s", ["h100-sxm"]),
        ("autokv tune --objective kv_", ["kv_bytes_per_token"]),
        ("autokv jobs submit --max kl_", ["kl_divergence="]),
        ("autokv tune --slo t", ["ttft_ms=", "tpot_ms="]),
        ("autokv al", ["aliases"]),
        ("autokv remote al", ["alias"]),
        ("autokv tune --valid", ["--validation-samples"]),
    ],
)
def test_names_are_completed(line: str, names: list[str]) -> None:
    assert completed(line) == names


def test_ids_of_the_local_database_are_completed(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'autokv.db'}"
    config = CompressionConfig()
    measured = Measurement.of_samples(config, [{"id": "a", "kind": "text", "context_tokens": 9, "kl_divergence": 0.1}])
    trial = TrialRecord(0, "complete", {}, "tpe", config, measured, None, 0.1)
    front = [FrontPoint(0, "tpe", measured, None, feasible=True)]
    with Database(url) as database:
        waiting, done = (database.queue.submit(TuningRequest(model="tiny", seed=seed))[0].id for seed in range(2))
        database.trials.add(done, trial)
        document = ConfigurationDocument(pipeline=config.pipeline)
        database.results.save(done, TuningResult((), [trial], front, config.digest), [document])
    here = {"AUTOKV_DATABASE_URL": url}
    assert set(completed("autokv tune --resume ", **here)) == {waiting, done}
    assert completed(f"autokv jobs show {done[:10]}", **here) == [done]
    assert completed("autokv configs show ", **here) == [config.digest[:12]]
    # The option that names another database counts, wherever it stands.
    assert completed(f"autokv jobs show --database {url} {done[:10]}", AUTOKV_DATABASE_URL="sqlite:///none.db") == [
        done
    ]


@pytest.mark.parametrize("url", ["sqlite:///no-such-file.db", "postgresql://nobody@127.0.0.1:1/none", "nonsense"])
def test_a_database_that_is_not_there_completes_nothing_and_is_not_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert completed("autokv tune --resume ", AUTOKV_DATABASE_URL=url) == []
    assert completed("autokv configs show ", AUTOKV_DATABASE_URL=url) == []
    assert not list(tmp_path.iterdir())


def test_a_server_that_is_not_there_completes_nothing() -> None:
    assert completed("autokv jobs watch ", AUTOKV_SERVER_URL="http://127.0.0.1:1") == []


def test_a_shell_can_be_set_up() -> None:
    # Named, since a process that no shell started cannot tell which one.
    environment = {**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    command = [AUTOKV, "--show-completion", "bash"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
    assert "_AUTOKV_COMPLETE=complete_bash" in shown
