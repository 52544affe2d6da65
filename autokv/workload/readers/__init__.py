"""One trace format a file, registered here; formats are told apart by content."""

from __future__ import annotations

from autokv.workload.readers.azure import AzureReader
from autokv.workload.readers.mooncake import MooncakeReader
from autokv.workload.readers.reader import Columns, Reader, Row

__all__ = ["READERS", "Columns", "Reader", "Row"]

READERS: dict[str, Reader] = {reader.name: reader for reader in (AzureReader(), MooncakeReader())}
