"""BurstGPT (Wang et al., 2024): CSV of a campus' calls of ChatGPT and GPT-4.

Columns ``Timestamp`` (seconds), ``Request tokens``, ``Response tokens``; ``Session ID`` from version 2 on, empty for
calls of the API. A call that failed has no response tokens: it generated nothing that could be replayed, so it is left
out and counted in a note, not among the bad rows (version 2 has 7% of them).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from autokv.workload.readers.columns import Columns, counted
from autokv.workload.readers.csv_rows import CsvFields, CsvReader, CsvRows
from autokv.workload.readers.opening import Opening
from autokv.workload.readers.reader import BadRows, ReadOptions
from autokv.workload.source import Source


@dataclass(frozen=True)
class BurstGptReader(CsvReader):
    """Reads the BurstGPT CSV format."""

    def rows(self, opening: Opening, options: ReadOptions) -> CsvRows:
        """See :class:`~autokv.workload.readers.csv_rows.CsvReader`."""
        return replace(super().rows(opening, options), least_output=0)

    def read(self, source: Source, options: ReadOptions, bad: BadRows) -> Columns:
        """See :class:`~autokv.workload.readers.reader.Reader`."""
        columns = super().read(source, options, bad)
        answered = columns.output_tokens > 0
        failed = len(columns) - int(answered.sum())
        if not failed:
            return columns
        note = f"left out: {counted(failed, 'call')} that failed, without response tokens"
        return replace(columns.where(answered), notes=(note,))


BURSTGPT = BurstGptReader(
    name="burstgpt",
    expects="CSV with columns Timestamp (s), Request tokens, Response tokens",
    fields=CsvFields(
        arrival="Timestamp", input_tokens="Request tokens", output_tokens="Response tokens", session="Session ID"
    ),
    unit="s",
    optional=("session",),
)
