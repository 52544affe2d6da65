"""The life cycle of jobs agrees with a model of it in plain Python, whatever is done in whatever order."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import update

from autokv.errors import ConflictError, KeyReusedError, LeaseLostError, NotFoundError
from autokv.storage import Database, Lease
from autokv.storage.repository import now
from autokv.storage.tables import JobRow
from autokv.tuning.request import TuningRequest
from autokv.tuning.trial import TrialRecord, TuningResult

PAST = datetime(2020, 1, 1, tzinfo=UTC)
OUTCOMES = ("released", "crashed", "failed", "done")
CHOICES = ("a", "b")


@dataclass
class Modelled:
    """What a job should be like."""

    place: tuple[datetime, str]
    selector: str
    asked: dict[str, Any]
    state: str = "queued"
    crashes: int = 0
    trials: int = 0
    trials_before: int = 0
    """Stored when the running attempt began."""
    lapsed: bool = False
    outcomes: list[str | None] = field(default_factory=list)
    events: list[str] = field(default_factory=lambda: ["queued"])

    def owns(self, lease: Lease) -> bool:
        return self.state == "running" and lease.attempt == len(self.outcomes)

    def end(self, outcome: str) -> None:
        """An attempt ends, and with it perhaps the job."""
        self.outcomes[-1] = outcome
        self.lapsed = False
        self.events.append(outcome)
        if self.trials > self.trials_before:
            self.crashes = 0
        elif outcome in {"crashed", "lost"}:
            self.crashes += 1
        self.state = outcome if outcome in {"done", "failed", "cancelled"} else "queued"
        if self.state == "queued" and self.crashes == 3:
            self.state = "failed"
            self.events.append("failed")


class LifeCycle(RuleBasedStateMachine):
    """Every rule does one thing to the database and to the model, and both answer alike."""

    leases = Bundle("leases")
    database: Database
    worker: str
    record: Callable[..., TrialRecord]

    @initialize()
    def begin(self) -> None:
        self.run = secrets.token_hex(4)
        self.jobs: dict[str, Modelled] = {}
        self.submitted: list[str] = []
        self.keys: dict[str, str] = {}

    def time(self) -> datetime:
        with self.database.reading() as session:
            return now(session)

    def teardown(self) -> None:
        """The next run shares the database."""
        for job_id, job in getattr(self, "jobs", {}).items():
            if job.state in {"queued", "running"}:
                self.database.queue.cancel(job_id, "the run is over")

    @rule(choice=st.sampled_from(CHOICES), key=st.sampled_from((None, None, "k1", "k2")), seed=st.integers(0, 1))
    def submit(self, choice: str, key: str | None, seed: int) -> None:
        asked = {"seed": seed, "labels": {"choice": choice}}
        sent = None if key is None else f"{self.run}-{key}"
        known = self.keys.get(key or "")

        def call() -> tuple[str, bool]:
            job, created = self.database.queue.submit(
                TuningRequest(model="tiny", seed=seed), submission=asked, selector=f"{self.run}-{choice}", key=sent
            )
            if created:
                self.jobs[job.id] = Modelled((job.created, job.id), choice, asked)
                self.submitted.append(job.id)
                # Ids are random: jobs of one moment would be claimed in another order when a run is repeated.
                while self.time() <= job.created:
                    pass
            return job.id, created

        if known is None:
            job_id, created = call()
            assert created
            if key is not None:
                self.keys[key] = job_id
        elif self.jobs[known].asked == asked:
            assert call() == (known, False)
        else:
            with pytest.raises(KeyReusedError):
                call()

    @rule(target=leases, choices=st.sets(st.sampled_from(CHOICES)))
    def claim(self, choices: set[str]) -> object:
        fitting = {f"{self.run}-{choice}" for choice in choices}
        claim = self.database.queue.claim(self.worker, fitting.__contains__, 600)
        waiting = [
            (job.place, job_id)
            for job_id, job in self.jobs.items()
            if job.state == "queued" and job.selector in choices
        ]
        if not waiting:
            assert claim is None
            return multiple()
        assert claim is not None
        assert claim.job.id == claim.lease.job_id == min(waiting)[1]
        job = self.jobs[claim.job.id]
        job.state, job.trials_before = "running", job.trials
        job.outcomes.append(None)
        job.events.append("started")
        assert claim.lease.attempt == len(job.outcomes)
        return claim.lease

    @rule(lease=leases)
    def heartbeat(self, lease: Lease) -> None:
        job = self.jobs.get(lease.job_id)
        ours = job is not None and job.owns(lease)
        assert self.database.queue.heartbeat(lease, 600) is ours
        if job is not None and ours:
            job.lapsed = False

    @rule(lease=leases, again=st.booleans())
    def store_a_trial(self, lease: Lease, again: bool) -> None:
        job = self.jobs.get(lease.job_id)
        number = 0 if job is None else job.trials
        record = self.record(number, samples=1)
        if job is None or not job.owns(lease):
            with pytest.raises(LeaseLostError):
                self.database.trials.add(lease.job_id, record, lease=lease)
            return
        for _ in range(1 + again):
            self.database.trials.add(lease.job_id, record, lease=lease)
        job.trials += 1
        job.events.append("trial")
        with pytest.raises(ConflictError, match="already"):
            self.database.trials.add(lease.job_id, dataclasses.replace(record, seconds=9.0), lease=lease)

    @precondition(lambda self: any(job.state == "queued" for job in self.jobs.values()))
    @rule(ends=st.lists(st.tuples(st.sampled_from(("crashed", "lost", "released")), st.booleans()), max_size=4))
    def run_attempts(self, ends: list[tuple[str, bool]]) -> None:
        """Several in a row, each of which may store a trial; three that crash without one are rare otherwise."""
        for outcome, stores in ends:
            lease = self.claim(set(CHOICES))
            if not isinstance(lease, Lease):
                return
            if stores:
                self.store_a_trial(lease, again=False)
            if outcome == "lost":
                self.outlast(lease)
                self.reap()
            else:
                self.end_an_attempt(lease, outcome)

    @rule(lease=leases, outcome=st.sampled_from(OUTCOMES))
    def end_an_attempt(self, lease: Lease, outcome: str) -> None:
        def call() -> None:
            if outcome == "done":
                trials = self.database.trials.of(lease.job_id)
                self.database.results.save(lease.job_id, TuningResult((), trials, [], None), lease=lease)
            else:
                ends = {"released": "release", "crashed": "crashed", "failed": "fail"}
                getattr(self.database.queue, ends[outcome])(lease, outcome)

        job = self.jobs.get(lease.job_id)
        if job is not None and job.owns(lease):
            call()
            job.end(outcome)
        elif job is not None and (job.outcomes[lease.attempt - 1] == outcome or job.state == outcome == "done"):
            call()  # The answer to the first call may have been lost.
        elif job is None and outcome == "done":
            with pytest.raises(NotFoundError):
                call()
        else:
            with pytest.raises(LeaseLostError):
                call()

    @rule(lease=leases)
    def tell(self, lease: Lease) -> None:
        job = self.jobs.get(lease.job_id)
        if job is None or not job.owns(lease):
            with pytest.raises(LeaseLostError):
                self.database.queue.message(lease, "here")
            return
        self.database.queue.message(lease, "here")
        self.database.queue.progress(lease, {"phase": "searching"})
        job.events += ["message", "progress"]

    @rule(lease=leases)
    def outlast(self, lease: Lease) -> None:
        """The lease's end passes without a heartbeat."""
        ours = (JobRow.id == lease.job_id, JobRow.owner == lease.owner)
        with self.database.writing() as session:
            session.execute(update(JobRow).where(*ours).values(lease_until=PAST))
        job = self.jobs.get(lease.job_id)
        if job is not None and job.owns(lease):
            job.lapsed = True

    @rule()
    def reap(self) -> None:
        lapsed = {job_id for job_id, job in self.jobs.items() if job.lapsed}
        assert set(self.database.queue.reap()) == lapsed
        for job_id in lapsed:
            self.jobs[job_id].end("lost")

    @precondition(lambda self: self.submitted)
    @rule(data=st.data(), what=st.sampled_from(("cancel", "retry", "delete")))
    def change_a_job(self, data: st.DataObject, what: str) -> None:
        job_id = data.draw(st.sampled_from(self.submitted))
        calls: dict[str, Callable[[], bool | None]] = {
            "cancel": lambda: self.database.queue.cancel(job_id, "enough"),
            "retry": lambda: self.database.queue.retry(job_id),
            "delete": lambda: self.database.queue.delete(job_id),
        }
        job = self.jobs.get(job_id)
        refused = {"cancel": {"done", "failed"}, "retry": {"done"}, "delete": {"queued", "running"}}
        if job is None or job.state in refused[what]:
            with pytest.raises(NotFoundError if job is None else ConflictError):
                calls[what]()
            return
        unchanged = {"cancel": {"cancelled"}, "retry": {"queued", "running"}, "delete": set()}
        answer = calls[what]()
        if job.state in unchanged[what]:
            assert answer is False
        elif what == "delete":
            del self.jobs[job_id]
            self.keys = {key: known for key, known in self.keys.items() if known != job_id}
        elif what == "retry":
            job.state, job.crashes = "queued", 0
            job.events.append("queued")
        elif job.state == "running":
            job.end("cancelled")
        else:
            job.state = "cancelled"
            job.events.append("cancelled")

    @rule(lease=consumes(leases))
    def forget(self, lease: Lease) -> None:
        """Whoever had it is gone for ever."""

    @invariant()
    def agrees(self) -> None:
        for job_id, job in getattr(self, "jobs", {}).items():
            found = self.database.jobs.find(job_id)
            assert (found.state, found.crashes, found.trials) == (job.state, job.crashes, job.trials)
            assert found.attempts == len(job.outcomes)
            assert (found.worker is not None) == (job.state == "running")
            assert (found.finished is not None) == (job.state in {"done", "failed", "cancelled"})
            assert [attempt.outcome for attempt in self.database.queue.look(job_id).attempts] == job.outcomes
            events = self.database.events.of(job_id)
            assert [event.kind for event in events] == job.events
            assert [event.number for event in events] == list(range(1, len(events) + 1))
            assert self.database.events.latest([job_id]) == {job_id: (len(events), job.state)}
            conditions = {kind: condition["status"] for kind, condition in (found.conditions or {}).items()}
            running, finished = job.state == "running", job.state in {"done", "failed", "cancelled"}
            assert conditions == {"Accepted": True, "Running": running, "Finished": finished}
        for choice in CHOICES:
            waiting = sorted(
                (job.place, job_id)
                for job_id, job in getattr(self, "jobs", {}).items()
                if job.state == "queued" and job.selector == choice
            )
            for position, (_, job_id) in enumerate(waiting, 1):
                assert self.database.queue.look(job_id).place == (position, len(waiting))


def test_it_agrees_with_the_model(database: Database, worker: str, record: Callable[..., TrialRecord]) -> None:
    machine = type("Machine", (LifeCycle,), {"database": database, "worker": worker, "record": staticmethod(record)})
    few = settings(
        max_examples=20,
        stateful_step_count=25,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
        # Shrinking what fails would outlast the test's own limit.
        phases=(Phase.generate,),
    )
    run_state_machine_as_test(machine, settings=few)
