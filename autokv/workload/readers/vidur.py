"""Traces of the Vidur simulator (Agrawal et al., MLSys 2024): CSV.

Columns ``num_prefill_tokens`` and ``num_decode_tokens``; ``arrived_at`` (seconds) may be missing, and then all requests
arrive at once.
"""

from __future__ import annotations

from autokv.workload.readers.csv_rows import CsvFields, CsvReader

VIDUR = CsvReader(
    name="vidur",
    expects="CSV with columns num_prefill_tokens, num_decode_tokens and perhaps arrived_at (s)",
    fields=CsvFields(arrival="arrived_at", input_tokens="num_prefill_tokens", output_tokens="num_decode_tokens"),
    unit="s",
    optional=("arrival",),
)
