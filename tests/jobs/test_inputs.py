"""What a job names, brought onto the worker's machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from autokv.errors import ModelError
from autokv.hardware.catalog import sheets
from autokv.jobs.inputs import Inputs, materialise
from autokv.jobs.selector import Device, Selector
from autokv.settings import Settings
from autokv.storage import Database
from autokv.tuning.request import TuningRequest

CSV = b"TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.1234567,100,20\n"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with Database(f"sqlite:///{tmp_path / 'autokv.db'}") as opened:
        yield opened


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """One model is offered, of which only its description is there."""
    model = tmp_path / "models" / "tiny"
    model.mkdir(parents=True)
    (model / "config.json").write_text('{"architectures": ["LlamaForCausalLM"], "model_type": "llama"}')
    (model / "model.safetensors").write_bytes(b"")
    return Settings(model_roots=(tmp_path / "models",), cache_dir=tmp_path / "cache", offline=True)


def inputs_of(
    database: Database, settings: Settings, fields: Mapping[str, object], selector: Selector, **ids: str
) -> Inputs:
    request = TuningRequest.parse({"model": "tiny", **{name: fields[name] for name in fields if name != "run_on"}})
    submission = {"model": "tiny", **fields}
    job, _ = database.queue.submit(request, submission=submission, selector=selector.to_json(), **ids)
    return materialise(job, database, settings, "cuda:1")


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/x.csv", "..", "", ".hidden", "a b\n.csv", "é" * 300])
def test_an_upload_stays_in_its_folder_whatever_its_name(database: Database, settings: Settings, name: str) -> None:
    trace, _ = database.uploads.add("trace", name, [CSV], {})
    found = inputs_of(database, settings, {"workload": trace.id}, Selector(), trace=trace.id)
    path = Path(str(found.request.workload))
    assert path.resolve().parent == settings.cache_dir / "uploads" / trace.digest
    assert path.read_bytes() == CSV
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_file_that_was_cut_short_is_written_again(database: Database, settings: Settings) -> None:
    trace, _ = database.uploads.add("trace", "a.csv", [CSV], {})
    fields = {"workload": trace.id}
    path = Path(str(inputs_of(database, settings, fields, Selector(), trace=trace.id).request.workload))
    path.write_bytes(CSV[:10])
    inputs_of(database, settings, fields, Selector(), trace=trace.id)
    assert path.read_bytes() == CSV


def test_a_worker_chosen_for_its_device_serves_on_it_and_any_other_predicts(
    database: Database, settings: Settings
) -> None:
    trace, _ = database.uploads.add("trace", "a.csv", [CSV], {})
    sheet = sheets()["l4"]
    fields = {"workload": trace.id, "hardware": "l4"}
    chosen = inputs_of(database, settings, fields, Selector(Device.of(sheet.profile(), sheet)), trace=trace.id)
    assert (chosen.target, chosen.request.hardware, chosen.request.device) == (None, "here", "cuda:1")
    assert inputs_of(database, settings, fields, Selector(), trace=trace.id).target == sheet.profile()
    stored, _ = database.profiles.add(sheets()["a10"].profile().to_dict(), "mine", "uploaded")
    named = {**fields, "hardware": stored.id}
    predicted = inputs_of(database, settings, named, Selector(), trace=trace.id, profile=stored.id)
    assert predicted.target == sheets()["a10"].profile()
    # One that was chosen for another device than the one to serve on predicts that one.
    apart = Selector(Device.of(sheets()["h100-sxm"].profile()))
    assert (
        inputs_of(database, settings, {**fields, "run_on": "h100-sxm"}, apart, trace=trace.id).target == sheet.profile()
    )
    alone = inputs_of(database, settings, {"run_on": "h100-sxm"}, apart)
    assert (alone.target, alone.request.hardware) == (None, "here")


def test_what_a_submission_leaves_open_is_left_to_the_workload(database: Database, settings: Settings) -> None:
    left_open = inputs_of(database, settings, {}, Selector()).request
    assert {"space", "objectives"} & left_open.model_fields_set == set()
    said = inputs_of(database, settings, {"space": "balanced"}, Selector()).request
    assert {"space", "objectives"} & said.model_fields_set == {"space"}


def test_people_read_names_and_no_paths(database: Database, settings: Settings) -> None:
    trace, _ = database.uploads.add("trace", "mine.csv", [CSV], {})
    found = inputs_of(database, settings, {"workload": trace.id}, Selector(), trace=trace.id)
    assert found.shown(f"loading {found.request.model}") == "loading tiny"
    assert found.shown(f"{found.request.workload}:17: no number") == "mine.csv:17: no number"


def test_a_tokenizer_is_one_of_the_offered_models_too(database: Database, settings: Settings, tmp_path: Path) -> None:
    trace, _ = database.uploads.add("trace", "mine.csv", [CSV], {})
    fields = {"workload": trace.id, "tokenizer": "tiny", "columns": {"input_tokens": "a", "output_tokens": "b"}}
    found = inputs_of(database, settings, fields, Selector(), trace=trace.id)
    assert found.request.tokenizer == str(tmp_path / "models" / "tiny")
    assert found.shown(f"loading {found.request.tokenizer}") == "loading tiny"
    with pytest.raises(ModelError, match="not offered"):
        inputs_of(database, settings, {**fields, "tokenizer": "/etc"}, Selector(), trace=trace.id)


def test_a_model_that_is_not_offered_is_refused(database: Database, settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not offered"):
        inputs_of(database, settings, {"model": str(tmp_path / "models" / "tiny")}, Selector())
