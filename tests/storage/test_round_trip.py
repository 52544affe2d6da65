"""What is stored comes back equal."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from datetime import datetime
from itertools import zip_longest
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from autokv.config import CompressionConfig, ConfigurationDocument
from autokv.errors import StorageError
from autokv.evaluation.measurement import Measurement
from autokv.storage import Database
from autokv.storage.columns import database_now
from autokv.storage.jobs import model_key
from autokv.storage.tables import Base, JobRow, MeasurementRow, ModelRow, SampleRow
from autokv.tuning.request import TuningRequest
from autokv.tuning.trial import Decision, FrontPoint, TrialRecord, TuningResult

PIPELINES: list[dict[str, Any]] = [
    {},
    {"eviction": {"method": "snapkv", "keep_ratio": 1 / 3, "layer_budget": "pyramid", "options": {"kernel": 7}}},
    {
        "quantization": {"method": "fp8", "rotation": "hadamard"},
        "low_rank": {"method": "latent", "key_rank": 8, "value_rank": 0},
    },
    {
        "quantization": {
            "method": "integer",
            "key": {"bits": 4, "axis": "channel", "group_size": 32},
            "value": {"bits": 2, "axis": "token"},
        },
        "low_rank": {"method": "residual", "key_rank": 4, "value_rank": 2},
    },
]
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
FLOATS = st.floats(allow_nan=False)
SCALARS = st.none() | st.booleans() | st.integers() | FLOATS | TEXT
DOCUMENTS = st.dictionaries(
    TEXT, st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3))
)


@st.composite
def records(draw: st.DrawFn, number: int) -> TrialRecord:
    config = draw(st.none() | st.sampled_from([CompressionConfig(pipeline=pipeline) for pipeline in PIPELINES]))
    sample = st.fixed_dictionaries(
        {"id": TEXT, "kind": TEXT, "context_tokens": st.integers(0), "kl_divergence": st.floats(0, 1e9)},
        optional={"top1_agreement": st.floats(0, 1), "extra": SCALARS, "nll_delta": st.floats(-1e9, 1e9)},
    )
    measurement = None
    if config is not None and draw(st.booleans()):
        samples = draw(st.lists(sample, max_size=4))
        measurement = Measurement.of_samples(config, samples)
    return TrialRecord(
        number=number,
        state=draw(st.sampled_from(["complete", "infeasible", "failed"])),
        params=draw(DOCUMENTS),
        source=draw(TEXT),
        config=config,
        measurement=measurement,
        reason=draw(st.none() | TEXT),
        seconds=draw(st.floats(0, 1e9)),
    )


@given(data=st.data())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_trials_come_back_as_they_were(database: Database, data: st.DataObject) -> None:
    job_id = database.queue.submit(TuningRequest(model="tiny"))[0].id
    given_records = [data.draw(records(number)) for number in range(data.draw(st.integers(0, 3)))]
    for record in reversed(given_records):
        database.trials.add(job_id, record)
    assert repr(database.trials.of(job_id)) == repr(given_records)


def test_numbers_that_json_lacks_come_back(database: Database, job_id: str) -> None:
    params = {"a": math.inf, "b": [-math.inf, {"c": math.nan}], "plain": {"$float": 1, "other": 2}}
    database.trials.add(job_id, TrialRecord(0, "failed", params, "tpe", None, None, "broke", 0.1))
    (stored,) = database.trials.of(job_id)
    assert repr(stored.params) == repr(params)


def test_a_reason_that_no_database_holds_is_stored_escaped(database: Database, job_id: str) -> None:
    database.trials.add(job_id, TrialRecord(0, "failed", {}, "tpe", None, None, "no file 'a\udcff\0b'", 0.1))
    (stored,) = database.trials.of(job_id)
    assert stored.reason == "no file 'a\\udcff\\x00b'"


def test_samples_can_be_queried(
    database: Database, job_id: str, record: Callable[..., TrialRecord], measurement: Callable[..., Measurement]
) -> None:
    for number in range(3):
        database.trials.add(job_id, record(number))
    query = (
        select(MeasurementRow.trial, SampleRow.result["kl_divergence"].as_float())
        .join(SampleRow)
        .where(SampleRow.result["id"].as_string() == "text-1", MeasurementRow.phase == "calibration")
        .order_by(MeasurementRow.trial)
    )
    with database.reading() as session:
        found = [tuple(row) for row in session.execute(query)]
    assert found == [(number, measurement(number).samples[1]["kl_divergence"]) for number in range(3)]


def test_a_number_is_stored_once(database: Database, job_id: str, record: Callable[..., TrialRecord]) -> None:
    database.trials.add(job_id, record(4))
    with pytest.raises(StorageError, match="has a trial 4 already"):
        database.trials.add(job_id, dataclasses.replace(record(4), reason="another"))
    assert database.trials.of(job_id) == [record(4)]


def describe(database: Database, job_id: str, model: dict[str, Any], **facts: dict[str, Any]) -> None:
    with database.writing() as session:
        row = session.get_one(JobRow, job_id)
        row.model = model_key(session, model)
        for name, value in facts.items():
            setattr(row, name, value)


def test_a_request_comes_back(database: Database) -> None:
    request = TuningRequest(
        model="tiny", tasks=True, objectives=("task_score",), maximums={"kl_divergence": 0.1}, seed=3
    )
    facts = {"name": "tiny", "rope": {"theta": 1e4}}
    first, second = (database.queue.submit(request)[0].id for _ in range(2))
    describe(database, first, facts, hardware={"device": "cpu"}, versions={"torch": "2.13"})
    describe(database, second, facts, workload={"name": "trace", "lengths": [1, 2]})
    job = database.jobs.get(first)
    assert (job.request, job.model, job.hardware, job.workload) == (request, facts, {"device": "cpu"}, None)
    assert (job.state, job.versions, job.trials, job.runner) == ("queued", {"torch": "2.13"}, 0, None)
    assert job.created.utcoffset() is not None
    assert database.jobs.get(second).workload == {"name": "trace", "lengths": [1, 2]}
    assert {job.id for job in database.jobs.list()} == {first, second}
    with database.reading() as session:
        assert len(session.scalars(select(ModelRow)).all()) == 1


def test_jobs_are_listed_the_newest_first(database: Database) -> None:
    made = []
    for _ in range(3):
        made.append(database.queue.submit(TuningRequest(model="tiny"))[0].id)
        while _clock(database) <= database.jobs.get(made[-1]).created:
            pass
    assert [job.id for job in database.jobs.list()] == made[::-1]


def _clock(database: Database) -> datetime:
    with database.reading() as session:
        return session.scalars(select(database_now())).one()


def build_result(records: list[TrialRecord], validated: list[Measurement], **changes: Any) -> TuningResult:  # noqa: ANN401
    front = [
        FrontPoint(record.number, record.source, record.measurement, validation, feasible=index == 0)
        for index, (record, validation) in enumerate(zip_longest(records, validated))
        if record.measurement is not None
    ]
    digests = [point.calibration.config.digest for point in front]
    return dataclasses.replace(
        TuningResult(
            objectives=("kl_divergence", "kv_bytes_per_token"),
            trials=records,
            front=front[::-1],
            recommended=digests[0],
            named={"smallest": digests[0], "knee": digests[1]},
            reason="the smallest that meets the constraints",
            hypervolume=[0.1, 0.2, 0.25],
            importance={"kl_divergence": {"keep": 1.0}},
            stopped_by="trials",
            decision=Decision("kv_bytes_per_token", "2× smaller", ("more load",), ("predicted",), {"ttft_ms": 1 / 3}),
        ),
        **changes,
    )


def digest(record: TrialRecord) -> str:
    assert record.config is not None
    return record.config.digest


def document(config: CompressionConfig | None, **blocks: dict[str, Any]) -> ConfigurationDocument:
    assert config is not None
    return ConfigurationDocument(pipeline=config.pipeline, **blocks)


def test_a_result_comes_back_and_ends_the_job(
    database: Database, job_id: str, record: Callable[..., TrialRecord], measurement: Callable[..., Measurement]
) -> None:
    records = [record(number) for number in range(3)]
    for one in records:
        database.trials.add(job_id, one)
    assert database.results.of(job_id) is None
    result = build_result(records, [measurement(0, samples=2), measurement(1, samples=5)])
    documents = [document(one.config, measured={"kl_divergence": {"mean": 0.1}}) for one in records if one.config]
    database.results.save(job_id, result, documents)
    assert database.results.of(job_id) == result
    job = database.jobs.get(job_id)
    assert (job.state, job.stopped_by, job.reason) == ("done", "trials", result.reason)
    assert job.finished is not None
    listed = {one.digest: one.roles for one in database.configurations.list()}
    assert listed == {
        digest(records[0]): ("recommended", "smallest", "front"),
        digest(records[1]): ("knee", "front"),
        digest(records[2]): ("front",),
    }
    for written in documents:
        assert database.configurations.get(written.digest[:10]).document == written


def test_saving_a_result_twice_changes_nothing(
    database: Database, job_id: str, record: Callable[..., TrialRecord], measurement: Callable[..., Measurement]
) -> None:
    records = [record(number) for number in range(2)]
    for one in records:
        database.trials.add(job_id, one)
    result = build_result(records, [measurement(0)])
    documents = [document(CompressionConfig())]
    database.results.save(job_id, result, documents)
    before = _every_row(database)
    database.results.save(job_id, database.results.of(job_id) or result, documents)
    assert _every_row(database) == before


def test_a_resumed_job_leaves_a_further_result_and_loses_none(
    database: Database, job_id: str, record: Callable[..., TrialRecord], measurement: Callable[..., Measurement]
) -> None:
    first, second = record(0), record(1)
    database.trials.add(job_id, first)
    database.trials.add(job_id, second)
    early = build_result([first, second], [measurement(0)], stopped_by="interrupt")
    database.results.save(job_id, early, [document(first.config), document(second.config)])
    assert database.jobs.get(job_id).state == "interrupted"
    third = record(2)
    database.trials.add(job_id, third)
    assert database.results.of(job_id) == early
    late = build_result([first, second, third], [measurement(0, samples=1)], recommended=digest(third))
    database.results.save(job_id, late, [document(third.config), document(third.config)])
    assert database.results.of(job_id) == late
    assert [one.digest for one in database.configurations.list()] == [digest(third)]
    assert database.configurations.get(digest(second)).roles == ("knee", "front")


def test_a_result_of_a_trial_that_is_not_stored_is_refused_whole(
    database: Database, job_id: str, record: Callable[..., TrialRecord], measurement: Callable[..., Measurement]
) -> None:
    database.trials.add(job_id, record(0))
    before = _every_row(database)
    with pytest.raises(StorageError, match="refused"):
        database.results.save(job_id, build_result([record(0), record(1)], [measurement(0)]))
    with pytest.raises(StorageError, match="no such job"):
        database.results.save("ffffffffffff", build_result([record(0), record(1)], []))
    assert _every_row(database) == before


def _every_row(database: Database) -> dict[str, list[tuple[Any, ...]]]:
    """Everything stored, but for the moment at which a job ended."""
    with database.reading() as session:
        return {
            table.name: [
                tuple(row) for row in session.execute(select(*(c for c in table.c if c.name != "finished_at")))
            ]
            for table in Base.metadata.sorted_tables
        }


class TestPrefixes:
    def test_of_jobs(self, database: Database, job_id: str) -> None:
        assert database.jobs.get(job_id[:6]).id == job_id
        assert database.jobs.get(job_id.upper()).id == job_id
        for unknown in ("", "%", "_", "zz", job_id + "0"):
            with pytest.raises(StorageError, match=r"there is no job .*jobs list"):
                database.jobs.get(unknown)
        while len({job.id[0] for job in database.jobs.list()}) == len(database.jobs.list()):
            database.queue.submit(TuningRequest(model="tiny"))
        firsts = [job.id[0] for job in database.jobs.list()]
        twice = next(first for first in firsts if firsts.count(first) > 1)
        with pytest.raises(StorageError, match=r"could be .*more of its characters"):
            database.jobs.get(twice)

    def test_of_configurations(self, database: Database, record: Callable[..., TrialRecord]) -> None:
        jobs = [database.queue.submit(TuningRequest(model=name))[0].id for name in "ab"]
        config = record(0).config
        assert config is not None
        for job in jobs:
            database.trials.add(job, record(0))
            database.trials.add(job, record(1))
            database.results.save(job, build_result([record(0), record(1)], []), [document(config, model={"job": job})])
        with pytest.raises(StorageError, match="name one with --job"):
            database.configurations.get(config.digest)
        assert database.configurations.get(config.digest, job=jobs[1][:11]).document.model == {"job": jobs[1]}
        with pytest.raises(StorageError, match=r"there is no configuration .*configs list"):
            database.configurations.get("ffff", job=jobs[0])
