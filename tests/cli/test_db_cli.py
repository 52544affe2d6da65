"""``autokv db``, as a person calls it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from autokv.storage import Database
from autokv.tuning.request import TuningRequest

Run = Callable[..., tuple[int, str, str]]
OLD = Path(__file__).parents[1] / "storage" / "released" / "0001.sql"


@pytest.fixture
def old(tmp_path: Path) -> str:
    """The URL of a database of the first schema, with six jobs."""
    file = tmp_path / "old.db"
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript(OLD.read_text())
    return f"sqlite:///{file}"


def test_an_old_database_is_copied_upgraded_and_checked(autokv: Run, old: str, tmp_path: Path) -> None:
    code, out, err = autokv("db", "check", "--database", old)
    assert (code, out) == (2, "")
    assert "written by an older AutoKV (schema 0001); run `autokv db upgrade`" in err

    code, out, _ = autokv("db", "backup", tmp_path / "before.db", "--database", old)
    assert code == 0
    assert out.startswith(f"wrote {tmp_path / 'before.db'} (")

    code, out, _ = autokv("db", "upgrade", "--database", old)
    assert code == 0
    assert out.startswith(f"{old}: schema ")
    assert out.endswith(" (was 0001)\n")
    assert autokv("db", "upgrade", "--database", old)[1].endswith(" (nothing to do)\n")

    code, out, _ = autokv("db", "check", "--database", old)
    assert code == 0
    assert {line.split()[-1] for line in out.splitlines()[3:]} == {"ok"}

    with closing(sqlite3.connect(tmp_path / "before.db")) as connection:
        assert connection.execute("SELECT version_num FROM autokv_version").fetchall() == [("0001",)]
        assert connection.execute("SELECT count(*) FROM jobs").fetchall() == [(6,)]


def test_a_new_database_is_made(autokv: Run, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'new' / 'autokv.db'}"
    assert autokv("db", "check", "--database", url)[0] == 2
    assert not (tmp_path / "new").exists()
    assert autokv("db", "upgrade", "--database", url)[1].endswith(" (was empty)\n")
    assert autokv("db", "check", "--database", url)[0] == 0


def test_what_is_wrong_is_said_and_the_exit_status_tells(autokv: Run, tmp_path: Path) -> None:
    file = tmp_path / "autokv.db"
    with Database(f"sqlite:///{file}") as database:
        job = database.queue.submit(TuningRequest(model="tiny"))[0].id
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("UPDATE jobs SET owner = 'nobody'")
        connection.commit()
    code, out, err = autokv("db", "check", "--database", f"sqlite:///{file}")
    assert code == 2
    assert f"job {job} is queued and has an owner" in out
    assert "1 problem found; restore a backup of it" in err
    code, out, _ = autokv("db", "check", "--json", "--database", f"sqlite:///{file}")
    assert code == 2
    found = {one["name"]: one["problems"] for one in json.loads(out)["checks"]}
    assert found.pop("jobs") == [f"job {job} is queued and has an owner"]
    assert set(map(tuple, found.values())) == {()}


def test_a_copy_is_not_written_over(autokv: Run, old: str, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    code, _, err = autokv("db", "backup", tmp_path / "mine", "--database", old)
    assert code == 2
    assert "is there already; name another file" in err
    assert (tmp_path / "mine").read_text() == "mine"


def test_a_server_that_is_away_is_one_line_without_its_password(autokv: Run, tmp_path: Path) -> None:
    for command in (["upgrade"], ["check"], ["backup", tmp_path / "copy"]):
        code, out, err = autokv("db", *command, "--database", f"postgresql://me:hunter2@/x?host={tmp_path}")
        assert (code, out) == (2, "")
        assert err.startswith("error: postgresql://me:***@")
        assert "the database cannot be reached" in err
        assert err.count("\n") == 1
        assert "hunter2" not in err
    assert list(tmp_path.iterdir()) == []
