"""Compressed traces: the same as plain ones; damaged and suspicious streams are refused in one line."""

from __future__ import annotations

import gzip
from pathlib import Path

import pyarrow as pa
import pytest

from autokv.errors import WorkloadError
from autokv.workload import read_trace
from autokv.workload import source as source_module
from autokv.workload.source import Source

HEADER = b"arrived_at,num_prefill_tokens,num_decode_tokens\n"
ROWS = [b"%d.5,%d,%d\n" % (index, index % 997 + 1, index % 89 + 1) for index in range(5000)]
CONTENT = HEADER + b"".join(ROWS)


def zstd(data: bytes) -> bytes:
    return bytes(pa.Codec("zstd").compress(data))


COMPRESS = {"gzip": gzip.compress, "zstd": zstd}
both = pytest.mark.parametrize("codec", COMPRESS)


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@both
def test_compressed_like_plain_whatever_the_name(tmp_path: Path, codec: str) -> None:
    plain = read_trace(write(tmp_path / "calls.csv", CONTENT))
    packed = read_trace(write(tmp_path / "calls.txt.gz", COMPRESS[codec](CONTENT)))
    assert (packed.format, packed.name) == ("vidur", "calls")
    for column in ("arrival_s", "input_tokens", "output_tokens", "lines"):
        assert getattr(packed, column).tolist() == getattr(plain, column).tolist()


@both
def test_members_one_behind_the_other_are_one_file(tmp_path: Path, codec: str) -> None:
    compress = COMPRESS[codec]
    parts = [compress(b""), compress(CONTENT[:100]), compress(b""), compress(CONTENT[100:])]
    assert len(read_trace(write(tmp_path / "a", b"".join(parts)))) == len(ROWS)


@both
def test_a_stream_that_is_cut_off_anywhere_is_refused(tmp_path: Path, codec: str) -> None:
    whole = COMPRESS[codec](CONTENT)
    # The last bytes of gzip are the check sum and the size, without which a file may have lost rows.
    for length in {4, 10, 50, len(whole) // 2, len(whole) - 9, len(whole) - 1}:
        path = write(tmp_path / "a", whole[:length])
        with pytest.raises(WorkloadError, match="the compressed file is cut off; fetch it again") as caught:
            read_trace(path)
        assert caught.value.field == str(path)


def test_a_damaged_stream_is_refused(tmp_path: Path) -> None:
    whole = bytearray(gzip.compress(CONTENT))  # has a check sum; zstd has none by default
    whole[len(whole) // 2] ^= 0xFF
    with pytest.raises(WorkloadError, match=r"cannot be decompressed|cut off") as caught:
        read_trace(write(tmp_path / "a", bytes(whole)))
    assert "\n" not in str(caught.value)


@both
def test_what_follows_a_stream_is_refused(tmp_path: Path, codec: str) -> None:
    with pytest.raises(WorkloadError, match=r"cannot be decompressed|cut off"):
        read_trace(write(tmp_path / "b", COMPRESS[codec](CONTENT) + b"more that is no stream"))


@both
def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, codec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_module, "UNSUSPICIOUS_BYTES", 1 << 20)
    path = write(tmp_path / "a", COMPRESS[codec](HEADER + b"1.5,2,3\n" * 2_000_000))
    with pytest.raises(WorkloadError, match=f"decompresses to more than 200 times its {path.stat().st_size} bytes"):
        read_trace(path)
    given = 0

    def unpack() -> None:
        nonlocal given
        for chunk in Source(path).chunks(1 << 16):
            given += len(chunk)

    with pytest.raises(WorkloadError):
        unpack()
    assert given <= (1 << 20) + 200 * path.stat().st_size


@both
def test_what_is_too_large_once_decompressed_is_refused(
    tmp_path: Path, codec: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_module, "MAX_TRACE_BYTES", len(CONTENT) - 1)
    with pytest.raises(WorkloadError, match=f"decompresses to more than the limit of {len(CONTENT) - 1} bytes"):
        read_trace(write(tmp_path / "a", COMPRESS[codec](CONTENT)))


@both
def test_nothing_and_text_that_is_none(tmp_path: Path, codec: str) -> None:
    with pytest.raises(WorkloadError, match="is empty"):
        read_trace(write(tmp_path / "a", COMPRESS[codec](b" \n\n")))
    with pytest.raises(WorkloadError, match="is binary"):
        read_trace(write(tmp_path / "b", COMPRESS[codec](b"\x89PNG\xff\xfe")))
    with pytest.raises(WorkloadError, match="unrecognized trace format"):
        read_trace(write(tmp_path / "c", COMPRESS[codec](b"a,b\n1,2\n")))


def test_a_line_that_never_ends_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_module, "MAX_LINE_BYTES", 1000)
    monkeypatch.setattr(source_module, "CHUNK_BYTES", 100)
    chunks = Source.chunks
    monkeypatch.setattr(Source, "chunks", lambda source, size=100: chunks(source, size))
    content = HEADER + b"1,2,3\n" + b"1" * 3000
    with pytest.raises(WorkloadError, match="the line has more than 1000 bytes") as caught:
        read_trace(write(tmp_path / "a", content))
    assert caught.value.field == f"{tmp_path / 'a'}:3"


@pytest.mark.parametrize("size", [3, 4, 7, 64, 1000])
def test_blocks_are_whole_lines_of_the_same_content(tmp_path: Path, size: int) -> None:
    content = b"\xef\xbb\xbfone\n\ntwo and more\r\nthree\n" * 3 + b"last"
    source = Source(write(tmp_path / "a", content))
    blocks = list(source.blocks(size))
    assert b"".join(blocks) == content.removeprefix(b"\xef\xbb\xbf")
    assert all(block.endswith(b"\n") for block in blocks[:-1])


def test_rows_read_the_same_in_blocks_of_any_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = list(ROWS)
    for bad in (7, 8, 2000, 4999):
        lines[bad] = b"damaged\n"
    path = write(tmp_path / "a", HEADER + b"\n" + b"".join(lines))
    whole = read_trace(path)
    assert whole.rejected.lines == (10, 11, 2003, 5002)
    chunks = Source.chunks
    for size in (3000, 20_000):
        monkeypatch.setattr(Source, "chunks", lambda source, _=0, size=size: chunks(source, size))
        pieces = read_trace(path)
        assert pieces.rejected == whole.rejected
        assert pieces.input_tokens.tolist() == whole.input_tokens.tolist()
        assert pieces.lines is not None
        assert whole.lines is not None
        assert pieces.lines.tolist() == whole.lines.tolist()
