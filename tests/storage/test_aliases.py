"""Aliases against a plain model of them, and many hands at once."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.orm import Session

from autokv.config import CompressionConfig, ConfigurationDocument
from autokv.errors import ConflictError, InputError, NotFoundError, PreconditionError
from autokv.evaluation.measurement import Measurement
from autokv.storage import Database, aliases
from autokv.storage.configurations import row_of
from autokv.storage.tables import ConfigurationRow
from autokv.tuning.request import TuningRequest
from autokv.tuning.trial import FrontPoint, TrialRecord, TuningResult
from autokv.wire import AliasView


@pytest.fixture
def found(database: Database, worker: str) -> list[str]:
    """Ids of the four configurations of a job that is done."""
    database.queue.submit(TuningRequest(model="tiny"), submission={}, selector="{}")
    claim = database.queue.claim(worker, lambda _: True, 600)
    assert claim is not None
    records, measurements = [], []
    for number in range(4):
        stage = {"method": "knorm", "keep_ratio": 0.1 + number / 10}
        config = CompressionConfig.parse({"pipeline": {"eviction": stage}})
        sample = {"id": "text-0", "kind": "text", "context_tokens": 64, "kl_divergence": 0.5, "kv_bytes_per_token": 9.0}
        measurements.append(Measurement.of_samples(config, [sample]))
        records.append(TrialRecord(number, "complete", {"keep": number}, "tpe", config, measurements[-1], None, 0.5))
        database.trials.add(claim.job.id, records[-1], lease=claim.lease)
    result = TuningResult(
        objectives=("kl_divergence", "kv_bytes_per_token"),
        trials=records,
        front=[FrontPoint(number, "tpe", one, None, True) for number, one in enumerate(measurements)],
        recommended=measurements[0].config.digest,
    )
    documents = [ConfigurationDocument(pipeline=one.config.pipeline) for one in measurements]
    database.results.save(claim.job.id, result, documents, lease=claim.lease)
    return [database.configurations.get(one.config.digest).id for one in measurements]


def test_a_move_names_the_revision_that_it_replaces(database: Database, found: list[str]) -> None:
    made = database.aliases.create("chat-prod", found[0], "the first")
    assert (made.revision, made.configuration) == (1, found[0])
    assert made.digest == database.configurations.find(found[0]).digest
    moved = database.aliases.move("chat-prod", found[1], "faster", 1)
    assert (moved.revision, moved.configuration, moved.created) == (2, found[1], made.created)
    with pytest.raises(PreconditionError, match="alias chat-prod: is at revision 2, not 1; read it again"):
        database.aliases.move("chat-prod", found[2], "", 1)
    assert database.aliases.get("chat-prod") == moved
    told = [
        (move.revision, move.configuration, move.action, move.note) for move in database.aliases.history("chat-prod")[0]
    ]
    assert told == [(2, found[1], "moved", "faster"), (1, found[0], "created", "the first")]


def test_a_configuration_may_be_named_by_its_digest(database: Database, found: list[str]) -> None:
    digest = database.configurations.find(found[2]).digest
    assert database.aliases.create("by-digest", digest).configuration == found[2]


def test_an_alias_is_made_once(database: Database, found: list[str]) -> None:
    database.aliases.create("chat", found[0])
    with pytest.raises(PreconditionError, match="alias chat: is there already; read its revision and move it"):
        database.aliases.create("chat", found[1])
    assert database.aliases.get("chat").configuration == found[0]


def test_what_is_not_there_is_said_to_be_missing(database: Database, found: list[str]) -> None:
    calls: list[Callable[[], object]] = [
        lambda: database.aliases.get("none"),
        lambda: database.aliases.history("none"),
        lambda: database.aliases.move("none", found[0], "", 1),
        lambda: database.aliases.roll_back("none", 1),
        lambda: database.aliases.delete("none", 1),
    ]
    for call in calls:
        with pytest.raises(NotFoundError, match="alias none: there is no such alias"):
            call()
    with pytest.raises(NotFoundError, match="there is no such configuration"):
        database.aliases.create("none", "0" * 12)
    assert database.aliases.page() == ((), None)


def test_rolling_back_twice_goes_two_moves_back(database: Database, found: list[str]) -> None:
    database.aliases.create("chat", found[0])
    for revision in (1, 2):
        database.aliases.move("chat", found[revision], "", revision)
    assert database.aliases.roll_back("chat", 3).configuration == found[1]
    assert database.aliases.roll_back("chat", 4).configuration == found[0]
    with pytest.raises(ConflictError, match="alias chat: has nothing to go back to"):
        database.aliases.roll_back("chat", 5)
    forward = database.aliases.roll_back("chat", 5, to=3, note="it was not that")
    assert (forward.revision, forward.configuration) == (6, found[2])
    assert database.aliases.roll_back("chat", 6).configuration == found[0]
    with pytest.raises(NotFoundError, match="alias chat: has no revision 99"):
        database.aliases.roll_back("chat", 7, to=99)


def test_a_job_stays_while_an_alias_stands_or_stood_for_a_configuration_of_it(
    database: Database, found: list[str]
) -> None:
    job_id = database.configurations.find(found[0]).job_id
    database.aliases.create("chat", found[0])
    with pytest.raises(ConflictError, match="chat"):
        database.queue.delete(job_id)
    assert database.configurations.find(found[0]).id == found[0]
    database.aliases.delete("chat", 1)
    database.queue.delete(job_id)
    with pytest.raises(NotFoundError):
        database.configurations.find(found[0])


def race(count: int, act: Callable[[int], object]) -> list[object]:
    """What ``count`` threads get that act at once; refusals are what they get, too."""
    barrier = threading.Barrier(count)

    def one(number: int) -> object:
        barrier.wait()
        try:
            return act(number)
        except InputError as error:
            return error

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


def test_of_many_moves_of_one_revision_one_is_made(database: Database, found: list[str]) -> None:
    database.aliases.create("chat", found[0])
    for revision in range(1, 6):

        def move(number: int, at: int = revision) -> AliasView:
            return database.aliases.move("chat", found[number % 4], str(number), at)

        ends = race(6, move)
        assert sum(isinstance(end, AliasView) for end in ends) == 1
        assert sum(isinstance(end, PreconditionError) for end in ends) == 5
    assert [move.revision for move in database.aliases.history("chat")[0]] == [6, 5, 4, 3, 2, 1]


def test_of_many_that_make_one_alias_one_succeeds(database: Database, found: list[str]) -> None:
    ends = race(6, lambda number: database.aliases.create("chat", found[number % 4]))
    assert sum(isinstance(end, AliasView) for end in ends) == 1
    assert sum(isinstance(end, PreconditionError) for end in ends) == 5


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_a_configuration_that_goes_while_it_is_named_is_said_to_be_missing(
    database: Database, found: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On SQLite there is one writer at a time."""
    find, job_id = row_of, database.configurations.find(found[0]).job_id

    def find_and_lose(session: Session, key: str) -> ConfigurationRow:
        row = find(session, key)
        monkeypatch.setattr(aliases, "row_of", find)
        database.queue.delete(job_id)
        return row

    monkeypatch.setattr(aliases, "row_of", find_and_lose)
    with pytest.raises(NotFoundError, match="there is no such configuration"):
        database.aliases.create("chat", found[0])
    assert database.aliases.page() == ((), None)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["create", "move", "move", "back", "back", "back-to", "delete"]),
        st.integers(0, 3),
        st.integers(-1, 1),
    ),
    max_size=14,
)


def refused(act: Callable[[], object]) -> type[InputError] | None:
    """How ``act`` is refused."""
    try:
        act()
    except InputError as error:
        return type(error)
    return None


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_aliases_do_what_a_plain_model_of_them_does(
    database: Database, found: list[str], steps: list[tuple[str, int, int]]
) -> None:
    """``path`` is what a person would draw: the configurations on the way here, without what was taken back."""
    name = f"chat-{secrets.token_hex(8)}"
    history: list[str] = []
    path: list[str] = []
    stored = database.aliases
    for action, target, off in steps:
        revision = len(history)
        at = revision + off
        expected: type[InputError] | None = None
        if action != "create" and not history:
            expected = NotFoundError
        elif (action == "create" and history) or (action != "create" and off):
            expected = PreconditionError
        elif action == "back" and len(path) < 2:
            expected = ConflictError
        elif action == "back-to" and target >= revision:
            expected = NotFoundError
        acts: dict[str, Callable[[], object]] = {
            "create": partial(stored.create, name, found[target]),
            "move": partial(stored.move, name, found[target], "", at),
            "back": partial(stored.roll_back, name, at),
            "back-to": partial(stored.roll_back, name, at, target + 1),
            "delete": partial(stored.delete, name, at),
        }
        assert refused(acts[action]) is expected
        if expected is not None:
            continue
        if action == "delete":
            history, path = [], []
            continue
        if action == "back":
            path = path[:-1]
        elif action == "back-to":
            wanted = history[target]
            earlier = [place for place, one in enumerate(path[:-1]) if one == wanted]
            path = path[: earlier[-1] + 1] if earlier else [*path, wanted]
        else:
            path = [*path, found[target]]
        history.append(path[-1])
        assert stored.get(name).configuration == path[-1]
    if history:
        told, _ = stored.history(name, limit=100)
        assert [move.configuration for move in told][::-1] == history
        assert [move.revision for move in told] == list(range(len(history), 0, -1))


def test_history_comes_in_pages(database: Database, found: list[str]) -> None:
    database.aliases.create("chat", found[0])
    for revision in range(1, 6):
        database.aliases.move("chat", found[revision % 4], "", revision)
    shown, before = database.aliases.history("chat", limit=4)
    rest, end = database.aliases.history("chat", before, limit=4)
    assert [move.revision for move in (*shown, *rest)] == [6, 5, 4, 3, 2, 1]
    assert (before, end) == (3, None)
