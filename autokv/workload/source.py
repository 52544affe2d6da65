"""The bytes of a trace: plain, gzip or zstd, told by their first bytes; streamed, bounded, in whole lines."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from autokv.errors import WorkloadError
from autokv.files import BYTE_ORDER_MARK, check_regular

MAX_TRACE_BYTES = 2 << 30
"""A larger trace is refused, also where it is larger only once it is decompressed."""
MAX_COMPRESSION_RATIO = 200
"""Decompressed bytes per byte of the file; more of them are a bomb, beyond :data:`UNSUSPICIOUS_BYTES`."""
UNSUSPICIOUS_BYTES = 64 << 20
"""So much is decompressed whatever the ratio."""
MAX_LINE_BYTES = 16 << 20
"""A longer line is refused."""
CHUNK_BYTES = 8 << 20
HEAD_BYTES = 256 << 10
CODECS = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}


class Source:
    """One trace file. Each call of :meth:`chunks` or :meth:`blocks` reads it anew from its start."""

    def __init__(self, path: Path) -> None:
        """Look at the beginning of ``path``.

        Raises:
            WorkloadError: it is missing, not a regular file, too large, empty, or compressed and damaged.
        """
        self.path = path
        self.size = check_regular(path, limit=MAX_TRACE_BYTES, error=WorkloadError, what="trace")
        with self._reading(), path.open("rb") as file:
            magic = file.read(4)
        self.codec = next((codec for start, codec in CODECS.items() if magic.startswith(start)), None)
        self.head = self._first(HEAD_BYTES)
        """The first bytes, decompressed, without a byte order mark."""

    def chunks(self, size: int = CHUNK_BYTES) -> Iterator[bytes]:
        """The decompressed content in pieces of about ``size`` bytes, without a byte order mark.

        Raises:
            WorkloadError: the compressed stream is cut off or damaged, or it becomes too much.
        """
        total = 0
        with self._reading(), pa.OSFile(str(self.path)) as file:
            stream = file if self.codec is None else pa.CompressedInputStream(file, self.codec)
            while chunk := stream.read(size):
                if not total:
                    chunk = chunk.removeprefix(BYTE_ORDER_MARK)
                total += len(chunk)
                self._check_size(total)
                yield chunk

    def blocks(self, size: int = CHUNK_BYTES) -> Iterator[bytes]:
        """The content as :meth:`chunks` has it, cut behind line feeds: only the last block may end without one.

        Raises:
            WorkloadError: as for chunks; or it holds a NUL byte, or a line that is too long.
        """
        line, rest = 1, b""
        for chunk in self.chunks(size):
            if b"\0" in chunk:
                raise self.binary()
            end = chunk.rfind(b"\n") + 1
            if not end:
                rest += chunk
            else:
                block, rest = rest + chunk[:end], chunk[end:]
                yield block
                line += block.count(b"\n")
            if len(rest) > MAX_LINE_BYTES:
                raise WorkloadError(
                    f"the line has more than {MAX_LINE_BYTES} bytes",
                    field=f"{self.path}:{line}",
                    remedy="remove it",
                )
        if rest:
            yield rest

    def binary(self) -> WorkloadError:
        """What to raise for content that is no text."""
        return WorkloadError(
            "is binary", field=str(self.path), remedy="name a trace as UTF-8 text (gzip and zstd are read) or Parquet"
        )

    def _first(self, size: int) -> bytes:
        head = b""
        for chunk in self.chunks(size):
            head += chunk
            if len(head) >= size:
                break
        if not head.strip():
            raise WorkloadError("is empty", field=str(self.path), remedy="name a trace file with content")
        return head

    def _check_size(self, total: int) -> None:
        if total > MAX_TRACE_BYTES:
            raise WorkloadError(
                f"decompresses to more than the limit of {MAX_TRACE_BYTES} bytes",
                field=str(self.path),
                remedy="use a part of it",
            )
        if total > UNSUSPICIOUS_BYTES and total > MAX_COMPRESSION_RATIO * self.size:
            raise WorkloadError(
                f"decompresses to more than {MAX_COMPRESSION_RATIO} times its {self.size} bytes: no trace does",
                field=str(self.path),
                remedy="decompress it first if you trust it",
            )

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Turns the operating system's and the decompressor's errors into one line."""
        try:
            yield
        except OSError as error:
            if error.errno is not None:
                why, remedy = f"cannot be read ({error.strerror})", "check the path"
            elif "runcated" in str(error):
                why, remedy = "the compressed file is cut off", "fetch it again"
            else:
                why, remedy = f"cannot be decompressed ({error})", "fetch it again, or decompress it first"
            raise WorkloadError(why, field=str(self.path), remedy=remedy) from None
