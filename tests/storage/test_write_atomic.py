"""A file is there whole or not at all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from autokv.errors import RequestError, StorageError, WorkloadError
from autokv.files import read_limited, replacing, write_atomic

LIMITED = """
import resource, sys
from autokv.errors import StorageError
from autokv.files import write_atomic
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    write_atomic(sys.argv[1], "x" * 100_000)
except StorageError as error:
    print(error)
"""

ENDLESS = """
import sys
from autokv.files import write_atomic
for size in range(1, 10**6):
    write_atomic(sys.argv[1], f"{size:07}" * 20_000)
    if size == 3:
        print("going", flush=True)
"""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_it_writes_text_and_bytes_into_new_folders(tmp_path: Path) -> None:
    file = tmp_path / "a" / "b" / "out.json"
    assert write_atomic(file, "größe") == file
    assert file.read_bytes() == "größe".encode()
    write_atomic(str(file), b"\x00\xff")
    assert file.read_bytes() == b"\x00\xff"
    assert names(file.parent) == ["out.json"]


def test_the_usual_rights_apply(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("x")
    assert write_atomic(tmp_path / "out", "x").stat().st_mode == plain.stat().st_mode


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("old")
    (tmp_path / "link").symlink_to("target")
    write_atomic(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "new"


@pytest.mark.parametrize("existing", [None, "the old one"])
def test_a_full_disk_leaves_what_was_there(tmp_path: Path, existing: str | None) -> None:
    file = tmp_path / "out.json"
    if existing is not None:
        file.write_text(existing)
    done = subprocess.run([sys.executable, "-c", LIMITED, str(file)], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"{file}: cannot be written (the file is larger")
    assert names(tmp_path) == ([] if existing is None else ["out.json"])
    assert existing is None or file.read_text() == existing


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    for target in (tmp_path, "/dev/full"):
        with pytest.raises(StorageError, match="is not an ordinary file"):
            write_atomic(target, "x")
    assert names(tmp_path) == []


def test_no_space_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StorageError, match=r"the disk is full.*free some space"):
        write_atomic(tmp_path / "out", "x")
    assert names(tmp_path) == []


@pytest.mark.parametrize("path", ["file/out.json", "x" * 300])
def test_an_impossible_path(tmp_path: Path, path: str) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match=r"cannot be written .*check the path"):
        write_atomic(tmp_path / path, "x")
    assert names(tmp_path) == ["file"]


def test_a_killed_writer_leaves_a_whole_file(tmp_path: Path) -> None:
    file = tmp_path / "out"
    child = subprocess.Popen([sys.executable, "-c", ENDLESS, str(file)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "going\n"
    seen = {file.read_text() for _ in range(50)}
    child.send_signal(signal.SIGKILL)
    child.wait()
    for content in (*seen, file.read_text()):
        assert content == content[:7] * 20_000


def test_a_block_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    def half(error: Exception) -> None:
        with replacing(file, WorkloadError) as temporary:
            temporary.write_text("half")
            raise error

    file = tmp_path / "out"
    file.write_text("old")
    for raised, said in ((KeyError("bug"), "bug"), (OSError(5, "it broke"), r"cannot be written \(it broke\)")):
        with pytest.raises(KeyError if isinstance(raised, KeyError) else WorkloadError, match=said):
            half(raised)
        assert (names(tmp_path), file.read_text()) == (["out"], "old")
    with replacing(file) as temporary:
        temporary.write_text("new")
        assert (temporary.parent, file.read_text()) == (file.parent, "old")
    assert (names(tmp_path), file.read_text()) == (["out"], "new")


def test_no_more_is_read_than_is_allowed(tmp_path: Path) -> None:
    file = tmp_path / "in"
    file.write_bytes(b"12345")
    assert read_limited(file, limit=5, error=RequestError) == b"12345"
    with pytest.raises(RequestError, match="is larger than 4 bytes; shorten it"):
        read_limited(file, limit=4, error=RequestError, remedy="shorten it")
    for path, message in ((tmp_path / "none", "cannot be read"), (tmp_path, "cannot be read"), ("a\0b", "is no path")):
        with pytest.raises(RequestError, match=message):
            read_limited(path, limit=4, error=RequestError)
