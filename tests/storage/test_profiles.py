"""Hardware profiles."""

from __future__ import annotations

import pytest

from autokv.errors import ConflictError, NotFoundError
from autokv.hardware import catalog
from autokv.storage import Database
from autokv.tuning.request import TuningRequest

PROFILE = catalog.sheets()["l4"].profile().to_dict()


def test_equal_profiles_of_one_name_are_one_and_other_figures_are_another(database: Database) -> None:
    first, new = database.profiles.add(PROFILE, "L4", "uploaded")
    assert new
    assert database.profiles.add(PROFILE, "L4", "uploaded") == (first, False)
    assert database.profiles.get(first.id) == first
    assert first.profile == PROFILE
    assert first.fingerprint == PROFILE["fingerprint"]
    faster = {**PROFILE, "copy_gb_per_s": {"median": 999.0, "spread": 0.0, "n": 0}}
    others = [
        database.profiles.add(*given)[0].id for given in ((faster, "L4", "uploaded"), (PROFILE, "L4", "measured"))
    ]
    assert len({first.id, *others}) == 3
    page, cursor = database.profiles.page(None, 2)
    rest, end = database.profiles.page(cursor, 2)
    assert {one.id for one in (*page, *rest)} == {first.id, *others}
    assert (len(page), len(rest), end) == (2, 1, None)


def test_what_a_job_or_a_worker_uses_stays(database: Database, worker: str) -> None:
    uploaded, _ = database.profiles.add(PROFILE, "L4", "uploaded")
    job, _ = database.queue.submit(TuningRequest(model="m"), submission={}, selector="{}", profile=uploaded.id)
    with pytest.raises(ConflictError, match=f"profile {uploaded.id}: is used by job {job.id}"):
        database.profiles.delete(uploaded.id)
    measured = database.workers.get(worker).hardware
    with pytest.raises(ConflictError, match=f"profile {measured}: is used by worker {worker}"):
        database.profiles.delete(measured)


def test_a_profile_that_nothing_uses_goes(database: Database) -> None:
    uploaded, _ = database.profiles.add(PROFILE, "L4", "uploaded")
    database.profiles.delete(uploaded.id)
    for call in (database.profiles.get, database.profiles.delete):
        with pytest.raises(NotFoundError, match=f"profile {uploaded.id}: there is no such hardware profile"):
            call(uploaded.id)
