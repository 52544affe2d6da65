"""Trace formats, registered here; they are told apart by content.

Other installed distributions may register readers of their own, as entry points of the group ``autokv.readers``.
"""

from __future__ import annotations

from autokv.errors import PluginError
from autokv.plugins import plugins
from autokv.workload.readers.chats import ChatReader
from autokv.workload.readers.load_generators import BENCH, GUIDELLM, OTLP
from autokv.workload.readers.mapped import MAPPED, TABLE
from autokv.workload.readers.opening import Opening
from autokv.workload.readers.published import AZURE, BAILIAN, BURSTGPT, MOONCAKE, VIDUR
from autokv.workload.readers.reader import BadRows, Reader, ReadOptions, Tokenizer
from autokv.workload.readers.times import TimeUnit
from autokv.workload.readers.weka import WekaReader

__all__ = [
    "MAPPED", "READERS", "BadRows", "Opening", "ReadOptions", "Reader", "TimeUnit", "Tokenizer",
    "installed_readers",
]  # fmt: skip

_ALL: tuple[Reader, ...] = (
    AZURE, MOONCAKE, BAILIAN, BURSTGPT, VIDUR, WekaReader(), BENCH, GUIDELLM, OTLP, TABLE, ChatReader(),
)  # fmt: skip
READERS: dict[str, Reader] = {reader.name: reader for reader in _ALL}
"""Formats that are told by their content; the first that knows a file reads it."""
GROUP = "autokv.readers"
"""Entry points, each a :class:`Reader`."""


def installed_readers() -> dict[str, Reader]:
    """Readers that other distributions register; they are asked before those of :data:`READERS`.

    Raises:
        PluginError: one cannot be loaded, or is no reader.
    """
    found: dict[str, Reader] = {}
    for name, reader in plugins(GROUP).items():
        if not all(hasattr(reader, part) for part in ("name", "expects", "recognizes", "read")):
            raise PluginError(
                f"{reader!r} is no reader",
                field=f"{GROUP}: {name}",
                remedy="it needs name, expects, recognizes and read (autokv.workload.readers.Reader)",
            )
        found[name] = reader  # type: ignore[assignment]
    return found
