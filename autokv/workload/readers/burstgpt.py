"""BurstGPT (Wang et al., 2024): CSV of a campus' calls of ChatGPT and GPT-4.

Columns ``Timestamp`` (seconds), ``Request tokens``, ``Response tokens``; ``Session ID`` from version 2 on, empty for
calls of the API. A call that failed has no response tokens, in version 3 no request tokens either.
"""

from __future__ import annotations

from autokv.workload.readers.csv_rows import CsvFields, CsvReader

BURSTGPT = CsvReader(
    name="burstgpt",
    expects="CSV with columns Timestamp (s), Request tokens, Response tokens",
    fields=CsvFields(
        arrival="Timestamp", input_tokens="Request tokens", output_tokens="Response tokens", session="Session ID"
    ),
    unit="s",
    optional=("session",),
)
