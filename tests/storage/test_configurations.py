"""Configurations: found by id, digest and page, and what is recommended of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from autokv.config import CompressionConfig, ConfigurationDocument
from autokv.errors import NotFoundError
from autokv.evaluation.measurement import Measurement
from autokv.storage import Database
from autokv.storage.jobs import model_key
from autokv.storage.tables import JobRow
from autokv.tuning.request import TuningRequest
from autokv.tuning.trial import FrontPoint, StoppedBy, TrialRecord, TuningResult


def measured(keep: float) -> Measurement:
    config = CompressionConfig.parse({"pipeline": {"eviction": {"method": "knorm", "keep_ratio": keep}}})
    sample = {"id": "text-0", "kind": "text", "context_tokens": 64, "kl_divergence": keep, "kv_bytes_per_token": 9.0}
    return Measurement.of_samples(config, [sample])


def create(
    database: Database, request: TuningRequest, model: Mapping[str, Any] | None = None, **facts: Mapping[str, Any]
) -> str:
    """A job that waits, and what it runs on is known."""
    job_id = database.queue.submit(request)[0].id
    with database.writing() as session:
        row = session.get_one(JobRow, job_id)
        row.model = None if model is None else model_key(session, model)
        for name, value in facts.items():
            setattr(row, name, value)
    return job_id


def finish(
    database: Database,
    *keeps: float,
    model: str = "tiny",
    called: str = "",
    device: str = "L4",
    trace: str | None = None,
    hardware: str = "here",
    ended: StoppedBy = "trials",
) -> str:
    """A job that ran to its end with a front of ``keeps``, the first of which it recommends; its id."""
    request = TuningRequest(model=model, workload=trace, hardware=hardware if trace else "here")
    facts = {"name": device, "fingerprint": f"print of {device}"}
    workload = {} if trace is None else {"trace": trace}
    job_id = create(database, request, {"name": called or model}, hardware=facts, workload=workload)
    save(database, job_id, keeps, 0, facts, workload, ended)
    return job_id


def save(
    database: Database,
    job_id: str,
    keeps: Sequence[float],
    first: int = 0,
    hardware: dict[str, str] | None = None,
    workload: dict[str, str] | None = None,
    ended: StoppedBy = "trials",
) -> None:
    found = [measured(keep) for keep in keeps]
    records = [
        TrialRecord(number, "complete", {"keep": number}, "tpe", one.config, one, None, 0.5)
        for number, one in enumerate(found, start=first)
    ]
    for record in records:
        database.trials.add(job_id, record)
    front = [FrontPoint(record.number, "tpe", one, one, True) for record, one in zip(records, found, strict=True)]
    documents = [
        ConfigurationDocument(pipeline=one.config.pipeline, hardware=hardware, workload=workload) for one in found
    ]
    earlier = [record for record in database.trials.of(job_id) if record.number < first]
    result = TuningResult(
        objectives=("kl_divergence", "kv_bytes_per_token"),
        trials=[*earlier, *records],
        front=front,
        recommended=found[0].config.digest,
        named={"smallest": found[-1].config.digest},
        reason="it is the first",
        stopped_by=ended,
    )
    database.results.save(job_id, result, documents)


def test_what_a_run_found_out_of_its_workload_is_added_to_what_is_stored(database: Database) -> None:
    job = create(database, TuningRequest(model="tiny"), workload={"contexts": [1, 2]})
    result = TuningResult((), [], [], None)
    database.results.save(job, result, workload={"tasks": {"left_out": ["needle"]}})
    assert database.jobs.get(job).workload == {"contexts": [1, 2], "tasks": {"left_out": ["needle"]}}


def test_an_id_finds_one_for_ever_and_a_digest_the_newest(database: Database) -> None:
    first = finish(database, 0.1, 0.2)
    old = database.configurations.page(job=first, role="recommended")[0][0]
    second = finish(database, 0.1)
    new = database.configurations.page(job=second)[0][0]
    assert old.digest == new.digest
    assert old.id != new.id
    assert database.configurations.find(old.id) == old
    assert database.configurations.find(new.digest) == new
    assert database.configurations.find(new.digest[:12]) == new
    assert database.configurations.find(new.digest[:8].upper()) == new
    for wrong in (old.id[:6], old.digest[:7], "0" * 12, "0" * 64):
        with pytest.raises(NotFoundError, match=f"configuration {wrong}: there is no such configuration"):
            database.configurations.find(wrong)


def test_a_digest_that_could_be_several_is_refused_with_their_names(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeps = [0.01 * number for number in range(1, 40)]
    job = finish(database, *keeps)
    digests = [one.digest for one in database.configurations.page(job=job, limit=100)[0]]
    first = next(one for one in digests if sum(other[0] == one[0] for other in digests) > 1)
    monkeypatch.setattr("autokv.storage.configurations.SHORTEST", 1)
    with pytest.raises(NotFoundError, match="give more characters") as caught:
        database.configurations.find(first[0])
    several = sorted(one[:12] for one in digests if one[0] == first[0])
    assert f"could be {', '.join(several[:3])}" in str(caught.value)


def test_filters_are_and_pages_are_whole(database: Database) -> None:
    jobs = [finish(database, 0.1, 0.2, 0.3), finish(database, 0.1, 0.4, model="org/big", called="big")]
    everything, _ = database.configurations.page()
    assert len(everything) == 5
    assert list(everything) == sorted(everything, key=lambda one: (one.created, one.id), reverse=True)
    shown, cursor = database.configurations.page(limit=2)
    while cursor is not None:
        page, cursor = database.configurations.page(cursor=cursor, limit=2)
        shown += page
    assert shown == everything

    def ids(**filters: Any) -> set[str]:  # noqa: ANN401
        return {one.id for one in database.configurations.page(**filters)[0]}

    for job in jobs:
        assert ids(job=job) == {one.id for one in everything if one.job_id == job}
    for role in ("recommended", "smallest", "front"):
        assert ids(role=role) == {one.id for one in everything if role in one.roles}
    assert len(ids(role="recommended")) == 2
    assert ids(role="recommend") == ids(role="%") == set()
    digest = measured(0.1).config.digest
    assert ids(digest=digest) == {one.id for one in everything if one.digest == digest}
    for name in ("org/big", "big"):
        assert ids(model=name) == ids(job=jobs[1])
    assert ids(model="ORG/big") == ids(model="org/big", job=jobs[0]) == set()


def test_of_a_job_that_went_on_the_last_result_counts(database: Database) -> None:
    job = finish(database, 0.1, ended="interrupt")
    before = database.configurations.page()[0][0]
    save(database, job, [0.2], first=1)
    assert [one.digest for one in database.configurations.page()[0]] == [measured(0.2).config.digest]
    assert [one.digest for one in database.configurations.list()] == [measured(0.2).config.digest]
    assert database.configurations.find(before.id) == before


def test_the_nearest_is_recommended_first_and_never_for_another_model(database: Database) -> None:
    plain = finish(database, 0.1, device="L4", trace="chat")
    finish(database, 0.2, model="other", device="H100", trace="code")
    on_device = finish(database, 0.3, device="H100", trace="chat")
    both = finish(database, 0.4, device="H100", trace="code")
    on_workload = finish(database, 0.5, device="L4", trace="code")
    finish(database, 0.6, device="H100", trace="code", ended="interrupt")
    newest = finish(database, 0.7, device="L4", trace="chat")

    def asked(*hardware: str, workload: tuple[str, ...] = ()) -> list[tuple[str, bool, bool]]:
        found = database.configurations.recommended(model="tiny", hardware=hardware, workload=workload)
        assert all("recommended" in one.configuration.roles and one.reason == "it is the first" for one in found)
        return [(one.configuration.job_id, one.hardware, one.workload) for one in found]

    for device in ("H100", "print of H100"):
        assert asked(device, workload=("code",)) == [
            (both, True, True),
            (on_device, True, False),
            (on_workload, False, True),
            (newest, False, False),
            (plain, False, False),
        ]
    assert [job for job, *_ in asked()] == [newest, on_workload, both, on_device, plain]
    assert [job for job, *_ in asked(workload=("chat",))][:3] == [newest, on_device, plain]
    assert database.configurations.recommended(model="unknown") == ()
    assert len(database.configurations.recommended(model="tiny", limit=2)) == 2


def test_a_device_that_was_asked_for_counts_as_well_as_the_one_that_ran(database: Database) -> None:
    wanted = finish(database, 0.1, device="L4", trace="chat", hardware="h100-sxm")
    finish(database, 0.2, device="L4", trace="chat")
    first = database.configurations.recommended(model="tiny", hardware=["h100-sxm"])[0]
    assert (first.configuration.job_id, first.hardware) == (wanted, True)
