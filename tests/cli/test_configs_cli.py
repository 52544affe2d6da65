"""``autokv configs``, over a real database."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from autokv.cli.configs import app
from autokv.config import CompressionConfig, ConfigurationDocument
from autokv.errors import StorageError
from autokv.storage import Database
from autokv.tuning.request import TuningRequest
from autokv.tuning.trial import TuningResult

STATISTICS = {"std": 0.0, "p95": 0.02, "worst": 0.02, "n": 4}
SMALL = ConfigurationDocument.model_validate(
    {
        "pipeline": {"eviction": {"method": "knorm", "keep_ratio": 0.25}},
        "model": {"name": "tiny"},
        "measured": {
            "kl_divergence": {"mean": 0.0123, **STATISTICS},
            "compression_ratio": {"mean": 3.99, **STATISTICS},
        },
        "validated": {"kl_divergence": {"mean": 0.0456, **STATISTICS}},
        "provenance": {"job": "here", "odd": float("inf")},
    }
)
PLAIN = ConfigurationDocument()


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'autokv.db'}"


@pytest.fixture
def job(url: str) -> str:
    named = {"smallest": SMALL.digest, "fastest": SMALL.digest, "knee": PLAIN.digest}
    with Database(url) as database:
        job = database.queue.submit(TuningRequest(model="tiny"))[0].id
        database.results.save(job, TuningResult((), [], [], SMALL.digest, named), [PLAIN, SMALL])
    return job


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments, env={"COLUMNS": "80"}, catch_exceptions=False)


def test_list(url: str, job: str) -> None:
    lines = run("list", "--database", url).stdout.splitlines()
    (small,) = (line for line in lines if SMALL.digest[:12] in line)
    (plain,) = (line for line in lines if PLAIN.digest[:12] in line)
    assert job in small
    assert "0.0456" in small
    assert "3.99" in small
    assert "knee" in plain
    assert "recommended" in " ".join(lines)
    assert max(map(len, lines)) <= 80


def test_the_recommended_one_is_listed_first(url: str, job: str) -> None:
    listed = json.loads(run("list", "--database", url, "--json").stdout)
    assert [(one["digest"], one["roles"]) for one in listed] == [
        (SMALL.digest, ["recommended", "smallest", "fastest"]),
        (PLAIN.digest, ["knee"]),
    ]
    assert json.loads(run("list", "--database", url, "--json", "--job", job[:5]).stdout) == listed
    assert run("list", "--database", url, "--job", "zzz").stdout == "no configurations yet\n"


def test_show(url: str, job: str) -> None:
    shown = json.loads(run("show", SMALL.digest[:9], "--database", url, "--job", job).stdout)
    assert ConfigurationDocument.parse(shown).digest == SMALL.digest


def test_download(url: str, job: str, tmp_path: Path) -> None:
    file = tmp_path / "new" / "mine.json"
    said = run("download", SMALL.digest[:12], "--output", str(file), "--database", url).stdout
    assert str(file) in said
    assert CompressionConfig.parse({"pipeline": json.loads(file.read_text())["pipeline"]}) == SMALL.config()
    assert ConfigurationDocument.load(file).validated == SMALL.validated
    assert [path.name for path in file.parent.iterdir()] == ["mine.json"]


def test_download_names_the_file_itself(url: str, job: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run("download", PLAIN.digest[:7], "--database", url)
    assert ConfigurationDocument.load(f"{PLAIN.digest[:12]}.json") == PLAIN


def test_what_cannot_be_downloaded(url: str, job: str, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="there is no configuration 'ffff'"):
        run("download", "ffff", "--output", str(tmp_path / "x.json"), "--database", url)
    with pytest.raises(StorageError, match="is not an ordinary file"):
        run("download", PLAIN.digest, "--output", str(tmp_path), "--database", url)
    assert not (tmp_path / "x.json").exists()
