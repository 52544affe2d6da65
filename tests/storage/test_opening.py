"""What cannot be opened is refused in one line that names it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from autokv.errors import StorageError
from autokv.storage import Database


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("autokv.db", "is not a database URL; write it as in sqlite:///"),
        ("", "is not a database URL"),
        ("mongodb://user:secret@host/x", "'mongodb' are not supported; use SQLite or PostgreSQL"),
        ("postgresql+psycopg2://user:secret@host/x", "'postgresql+psycopg2' are not supported"),
        ("postgresql://user:secret@host:port/x", "://user:***@host:port/x: is not a database URL"),
        ("postgresql:/user:secret@host/x", "/user:***@host/x: is not a database URL"),
        ("postgresql://user:secret@host", "names no database"),
        ("sqlite+aiosqlite:///x.db", "are not supported"),
        ("sqlite://", "nothing would be kept"),
        ("sqlite:///:memory:", "nothing would be kept"),
        ("sqlite:///file:x?mode=memory&uri=true", "nothing would be kept"),
        ("sqlite://host/x.db", "nothing would be kept"),
    ],
)
def test_a_url_that_names_no_database(url: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StorageError) as caught:
        Database(url)
    assert message in str(caught.value)
    assert "secret" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_database_is_made_only_on_request(sqlite_url: str, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="there is no such database"):
        Database(sqlite_url, create=False)
    assert list(tmp_path.iterdir()) == []
    Database(sqlite_url).close()
    with Database(sqlite_url, create=False) as database:
        assert database.jobs.list() == ()


@pytest.mark.parametrize("content", [b"arrival,tokens\n" * 100, b"\x00\x01\x02" * 500])
def test_a_file_that_is_no_database(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "trace.csv"
    file.write_bytes(content)
    with pytest.raises(StorageError, match="not an SQLite database"):
        Database(f"sqlite:///{file}")
    assert file.read_bytes() == content
    assert list(tmp_path.iterdir()) == [file]


def test_a_truncated_database(sqlite_url: str, tmp_path: Path) -> None:
    Database(sqlite_url).close()
    file = tmp_path / "runs" / "autokv.db"
    file.write_bytes(file.read_bytes()[:6000])
    with pytest.raises(StorageError, match="damaged"), Database(sqlite_url) as database:
        database.jobs.list()


def test_a_folder(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="is a folder"):
        Database(f"sqlite:///{tmp_path}")


def test_a_parent_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="cannot be opened"):
        Database(f"sqlite:///{tmp_path / 'file' / 'autokv.db'}")


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder in which not even root may write")
def test_a_folder_in_which_nobody_may_write() -> None:
    with pytest.raises(StorageError, match=r"cannot be (opened|written)"):
        Database("sqlite:////proc/self/autokv.db")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder(sqlite_url: str, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir(mode=0o500)
    with pytest.raises(StorageError, match=r"cannot be (opened|written)"):
        Database(sqlite_url)


def test_a_home_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    Database("sqlite:///~/mine.db").close()
    assert (tmp_path / "mine.db").is_file()
