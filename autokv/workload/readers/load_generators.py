"""What load generators and tracers write down: documents of many requests each, one, in a list or one a line.

- vLLM's ``vllm bench serve --save-detailed`` and SGLang's ``bench_serving --output-details``: ``input_lens``,
  ``output_lens`` and, of vLLM, ``start_times`` (seconds);
- guidellm's reports: the successful requests of each of its ``benchmarks``;
- OpenTelemetry's spans as the collector writes them (``resourceSpans``), of calls with ``gen_ai`` usage.

aiperf's ``profile_export.jsonl`` is a table, see :mod:`autokv.workload.readers.mapped`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import repeat
from typing import Any

from autokv.errors import WorkloadError
from autokv.workload.readers.columns import Columns
from autokv.workload.readers.documents import documents
from autokv.workload.readers.json_rows import JsonFields, JsonRows
from autokv.workload.readers.names import understood
from autokv.workload.readers.opening import Opening
from autokv.workload.readers.reader import BadRows, ReadOptions
from autokv.workload.readers.times import TimeUnit, checked_unit
from autokv.workload.source import Source

Record = Mapping[str, Any]
FIELDS = JsonFields(arrival="arrival", input_tokens="input_tokens", output_tokens="output_tokens", session="session")
CALLS = frozenset({None, "", "chat", "text_completion", "generate_content"})
"""Operations of which a span is one call of a model; an agent's span holds those of others."""


@dataclass(frozen=True)
class ResultReader:
    """Reads the requests that ``records`` finds in each document, under the keys of :data:`FIELDS`."""

    name: str
    expects: str
    keys: tuple[frozenset[str], ...]
    """Of the documents: all of one of these sets."""
    records: Callable[[Record], Iterator[Record]]
    unit: TimeUnit = "s"

    def recognizes(self, opening: Opening) -> bool:
        """The first object has the keys."""
        return any(keys <= opening.keys for keys in self.keys)

    def read(self, source: Source, options: ReadOptions, bad: BadRows) -> Columns:
        found: list[tuple[int, Record]] = []
        for line, document in documents(source, bad):
            try:
                found += [(line, record) for record in self.records(document)]
            except ValueError as error:
                bad.add(line, str(error))
        timed = all(record.get("arrival") is not None for _, record in found)
        fields = FIELDS if timed else replace(FIELDS, arrival=None)
        unit = checked_unit(options.time_unit, self.unit, self.name)
        columns = JsonRows(fields, unit, no_tokens_failed=True).read_records(found, bad)
        return replace(columns, own_clocks=True)


def _bench(document: Record) -> Iterator[Record]:
    if "input_lens" not in document:
        raise WorkloadError(
            "has sums over all requests, not the requests",
            field="input_lens",
            remedy="run the benchmark again with `--save-detailed` (vLLM) or `--output-details` (SGLang)",
        )
    inputs, outputs = document.get("input_lens"), document.get("output_lens")
    if not isinstance(inputs, list) or not isinstance(outputs, list) or len(inputs) != len(outputs):
        raise ValueError("input_lens and output_lens are not two lists of one length")
    starts, errors = document.get("start_times"), document.get("errors")
    starts = starts if isinstance(starts, list) and len(starts) == len(inputs) else repeat(None)
    errors = errors if isinstance(errors, list) and len(errors) == len(inputs) else repeat("")
    for tokens, answer, start, error in zip(inputs, outputs, starts, errors, strict=False):
        yield {"arrival": start, "input_tokens": tokens, "output_tokens": 0 if error else answer}


def _guidellm(document: Record) -> Iterator[Record]:
    benchmarks = document.get("benchmarks")
    for benchmark in benchmarks if isinstance(benchmarks, list) else ():
        requests = benchmark.get("requests") if isinstance(benchmark, dict) else None
        requests = requests.get("successful") if isinstance(requests, dict) else requests
        for request in requests if isinstance(requests, list) else ():
            if not isinstance(request, dict):
                raise ValueError("a request is not a JSON object")  # noqa: TRY004 - a bad document is a ValueError
            start = request.get("request_start_time", request.get("start_time"))
            tokens = {name: request.get(name) for name in ("prompt_tokens", "output_tokens")}
            yield {"arrival": start, "input_tokens": tokens["prompt_tokens"], "output_tokens": tokens["output_tokens"]}


def _spans(document: Record) -> Iterator[Record]:
    for span in _listed(document, "resourceSpans", "scopeSpans", "spans"):
        attributes = {str(pair.get("key")): _plain(pair.get("value")) for pair in _listed(span, "attributes")}
        columns = understood(attributes)
        if columns is None or attributes.get("gen_ai.operation.name") not in CALLS:
            continue
        session = columns.get("session")
        yield {
            "arrival": span.get("startTimeUnixNano"),
            "input_tokens": attributes[columns["input_tokens"]],
            "output_tokens": attributes[columns["output_tokens"]],
            "session": None if session is None else attributes[session],
        }


def _listed(holder: Record, *names: str) -> Iterator[dict[str, Any]]:
    """The objects of the lists that lie under these names, one in the other."""
    values = holder.get(names[0])
    for value in values if isinstance(values, list) else ():
        if isinstance(value, dict):
            if len(names) == 1:
                yield value
            else:
                yield from _listed(value, *names[1:])


def _plain(value: object) -> object:
    """What an attribute's value holds: ``{"intValue": "5"}``."""
    return next(iter(value.values()), None) if isinstance(value, dict) else value


BENCH = ResultReader(
    "bench",
    "the result of `vllm bench serve --save-detailed` or of SGLang's",
    (frozenset({"input_lens"}), frozenset({"total_input_tokens", "request_throughput"})),
    _bench,
)
GUIDELLM = ResultReader("guidellm", "guidellm's report", (frozenset({"benchmarks"}),), _guidellm)
OTLP = ResultReader("otlp", "OpenTelemetry's spans", (frozenset({"resourceSpans"}),), _spans, unit="ns")
