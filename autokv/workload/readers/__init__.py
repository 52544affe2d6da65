"""One trace format a file, registered here; formats are told apart by content."""

from __future__ import annotations

from autokv.workload.readers.azure import AZURE
from autokv.workload.readers.bailian import BAILIAN
from autokv.workload.readers.burstgpt import BURSTGPT
from autokv.workload.readers.mapped import MappedReader
from autokv.workload.readers.mooncake import MOONCAKE
from autokv.workload.readers.opening import Opening
from autokv.workload.readers.reader import BadRows, Reader, ReadOptions, Tokenizer
from autokv.workload.readers.sharegpt import ShareGptReader
from autokv.workload.readers.times import UNITS, TimeUnit
from autokv.workload.readers.vidur import VIDUR
from autokv.workload.readers.weka import WekaReader

__all__ = ["MAPPED", "READERS", "UNITS", "BadRows", "Opening", "ReadOptions", "Reader", "TimeUnit", "Tokenizer"]

_ALL: tuple[Reader, ...] = (AZURE, MOONCAKE, BAILIAN, BURSTGPT, VIDUR, ShareGptReader(), WekaReader())
READERS: dict[str, Reader] = {reader.name: reader for reader in _ALL}
"""Formats that are told by their content."""
MAPPED: Reader = MappedReader()
"""Reads a file whose columns are named; it is never told by content."""
