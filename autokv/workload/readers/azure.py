"""Azure LLM inference traces, 2023 and 2024 (Patel et al., Splitwise, 2024): CSV.

Columns ``TIMESTAMP`` (UTC, fractions of up to nine digits, optionally with a zone), ``ContextTokens`` and
``GeneratedTokens``.
"""

from __future__ import annotations

from autokv.workload.readers.csv_rows import CsvFields, CsvReader

AZURE = CsvReader(
    name="azure",
    expects="CSV with columns TIMESTAMP, ContextTokens, GeneratedTokens",
    fields=CsvFields(arrival="TIMESTAMP", input_tokens="ContextTokens", output_tokens="GeneratedTokens"),
    unit="iso",
)
