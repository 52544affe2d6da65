"""Every schema that was released opens, on both databases, and says what it said then."""

from __future__ import annotations

import importlib.util
import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import MetaData, create_engine, insert, inspect, select, text

from autokv.errors import StorageError
from autokv.storage import Database, schema
from autokv.storage.engine import parse

FOLDER = Path(__file__).parent / "released"
RELEASED = sorted(path.stem for path in FOLDER.glob("*.sql"))


def load_recorder() -> ModuleType:
    spec = importlib.util.spec_from_file_location("record", FOLDER / "record.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(params=RELEASED)
def released(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def old_url(url: str, released: str, tmp_path: Path) -> str:
    """A database as that release left it. Releases before 0003 knew SQLite only; their rows are copied."""
    parsed, _ = parse(url)
    on_sqlite = parsed.get_backend_name() == "sqlite"
    file = Path(str(parsed.database)) if on_sqlite else tmp_path / "old.db"
    file.parent.mkdir(exist_ok=True)
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript((FOLDER / f"{released}.sql").read_text())
    if not on_sqlite:
        make_schema(url, released)
        copy_rows(f"sqlite:///{file}", url)
    return url


def make_schema(url: str, revision: str) -> None:
    parsed, backend = parse(url)
    engine = create_engine(parsed)
    config = schema._config()
    with backend.migrating(engine) as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    engine.dispose()


def copy_rows(source: str, target: str) -> None:
    old, new = create_engine(source), create_engine(parse(target)[0])
    tables, targets = MetaData(), MetaData()
    tables.reflect(old)
    targets.reflect(new)
    with old.connect() as reading, new.begin() as writing:
        for table in targets.sorted_tables:
            rows = [
                {name: aware(value) for name, value in row.items()}
                for row in reading.execute(select(tables.tables[table.name])).mappings()
            ]
            if rows and table.name != schema.VERSION_TABLE:
                writing.execute(insert(table), rows)
                if isinstance(rows[0].get("id"), int):
                    last = max(int(str(row["id"])) for row in rows)
                    writing.execute(text(f"SELECT setval(pg_get_serial_sequence('{table.name}', 'id'), {last})"))
    old.dispose()
    new.dispose()


def aware(value: object) -> object:
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) else value


def added(old: object, new: object) -> object:
    """``new`` without the keys that ``old`` lacks: later versions may say more."""
    if isinstance(old, dict) and isinstance(new, dict):
        return {key: added(value, new[key]) for key, value in old.items() if key in new}
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return [added(*pair) for pair in zip(old, new, strict=True)]
    return new


def test_every_schema_but_the_newest_is_recorded() -> None:
    scripts = ScriptDirectory.from_config(schema._config())
    revisions = sorted(script.revision for script in scripts.walk_revisions())
    assert RELEASED in (revisions, revisions[:-1])


def test_it_opens_and_says_what_it_said(old_url: str, released: str) -> None:
    said = json.loads((FOLDER / f"{released}.json").read_text())
    with Database(old_url, create=False) as database:
        assert said["jobs"]
        assert added(said, load_recorder().read(database)) == said
        tables = set(inspect(database._engine).get_table_names())
    with Database(old_url, upgrade=False) as database:
        assert tables == set(inspect(database._engine).get_table_names())


def test_it_is_left_alone_on_request(old_url: str, released: str) -> None:
    parsed, _ = parse(old_url)
    engine = create_engine(parsed)
    before = sorted(inspect(engine).get_table_names())
    expected = pytest.raises(StorageError, match=rf"older AutoKV \(schema {released}\); run `autokv db upgrade`")
    with expected:
        Database(old_url, upgrade=False)
    assert sorted(inspect(engine).get_table_names()) == before
    engine.dispose()


def test_what_it_holds_can_be_gone_on_with(old_url: str) -> None:
    """A job that was interrupted then is taken up now."""
    with Database(old_url, create=False) as database:
        (job,) = (job for job in database.jobs.list() if job.request.model == "stopped")
        lease = database.queue.take(load_recorder().worker(database), job.id, 600).lease
        assert lease.attempt == 2
        database.trials.add(job.id, load_recorder().trial(1), lease=lease)
        assert [record.number for record in database.trials.of(job.id)] == [0, 1]
