"""The client for event loops, against a running server; what both share is tested with the other one."""

from __future__ import annotations

import asyncio
import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from autokv.client import AsyncClient, AsyncTuning, Client, Tuning
from autokv.data import example_trace
from autokv.errors import ConflictError, NotFoundError, RequestError

if TYPE_CHECKING:
    from tests.client.conftest import ScriptedWorker, Server

JOB: dict[str, Any] = {"model": "tiny", "trials": 3}


def test_a_job_from_its_submission_to_its_configuration(server: Server, worker: ScriptedWorker, tmp_path: Path) -> None:
    async def use() -> None:
        async with AsyncClient(server.url) as client:
            tuning = await client.tune(**JOB, workload=example_trace(), rate=1.0)
            kinds: list[str] = []
            waiting = asyncio.create_task(tuning.wait(lambda event: kinds.append(event.kind)))
            await asyncio.to_thread(worker.claim)
            await asyncio.to_thread(worker.finish)
            job = await waiting
            assert job.recommended is not None
            assert (job.state, kinds) == ("done", ["queued", "started", "trial", "trial", "trial", "done"])
            document = await tuning.configuration()
            assert document.digest == (await tuning.front()).recommended
            assert "<html" in await tuning.report()
            assert [trial.number async for trial in client.jobs.trials(job.id, limit=2)] == [0, 1, 2]
            assert [found.id async for found in client.jobs.list(state="done")] == [job.id]
            path = await client.configurations.download(job.recommended, tmp_path / "found.json")
            assert document.digest in (await client.configurations.get(document.digest)).digest
            assert path.stat().st_size
            alias = await client.aliases.create("prod", job.recommended)
            for _ in range(2):
                assert (await client.aliases.configuration("prod")).digest == alias.digest
            with pytest.raises(ConflictError):
                await client.jobs.delete(job.id)

    asyncio.run(use())


def test_many_follow_one_job_while_others_are_submitted(server: Server, worker: ScriptedWorker) -> None:
    async def use() -> None:
        async with AsyncClient(server.url) as client:
            tuning = await client.tune(**JOB)
            waiting = [asyncio.create_task(tuning.wait()) for _ in range(20)]
            ids = await asyncio.gather(*(client.tune(**JOB, seed=seed) for seed in range(20)))
            assert len({one.id for one in ids}) == 20
            await asyncio.to_thread(worker.claim)
            await asyncio.to_thread(worker.finish)
            assert {job.state for job in await asyncio.gather(*waiting)} == {"done"}
            with pytest.raises(TimeoutError):
                await ids[0].wait(timeout=0.1)
            with pytest.raises(NotFoundError):
                await client.tuning("missing")

    asyncio.run(use())


def test_both_clients_can_do_the_same() -> None:
    def methods(what: object) -> dict[str, list[str]]:
        public = {name: member for name, member in inspect.getmembers(what, callable) if not name.startswith("_")}
        return {name: list(inspect.signature(member).parameters) for name, member in public.items()}

    with Client("http://there") as client:
        other = AsyncClient("http://there")
        names = [name for name in vars(client) if not name.startswith("_")]
        assert names == [name for name in vars(other) if not name.startswith("_")]
        for name in names:
            assert methods(getattr(client, name)) == methods(getattr(other, name)) != {}
        assert methods(client) == methods(other)
        assert methods(client.jobs)["submit"] == ["submission", "key", "wait"]
        assert "same ``key``" in (client.jobs.submit.__doc__ or "")
        assert methods(client.aliases)["download"] == ["name", "file"]
    assert methods(Tuning) == methods(AsyncTuning)


def test_what_cannot_be_asked_is_refused_where_the_answer_is_awaited() -> None:
    async def use() -> None:
        async with AsyncClient("http://there") as client:
            asked = client.jobs.get("..")
            with pytest.raises(RequestError, match="is no name or id"):
                await asked

    asyncio.run(use())
