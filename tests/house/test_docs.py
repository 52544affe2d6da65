"""The documentation is held to the code: what it must name, and that what it names exists."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
import typer
from pydantic import BaseModel
from typer.core import TyperGroup

import autokv
from autokv import search_spaces
from autokv.cli.main import app
from autokv.cli.options import option_of
from autokv.compression.eviction import SCORERS
from autokv.config import Pipeline
from autokv.evaluation.metrics import METRICS
from autokv.evaluation.tasks import TASKS
from autokv.settings import PREFIX, Settings
from autokv.tuning.request import JobSubmission, TuningRequest
from autokv.workload.readers import READERS

ROOT = Path(__file__).parents[2]
DOCS = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / ".github").glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "benchmarks").glob("*.md"),
    ]
)


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def first_cells(name: str) -> set[str]:
    """The code in the first column of a page's tables."""
    return set(re.findall(r"^\| `([^`]+)` \|", read(name), flags=re.MULTILINE))


def commands(group: TyperGroup, path: str = "autokv") -> Iterator[tuple[str, set[str]]]:
    """Every command that help shows, with the long names of its options."""
    for name, command in group.commands.items():
        if command.hidden:
            continue
        if isinstance(command, TyperGroup):
            yield from commands(command, f"{path} {name}")
        else:
            yield (
                f"{path} {name}",
                {
                    option
                    for parameter in command.params
                    for option in (*parameter.opts, *parameter.secondary_opts)
                    if "--" in option
                },
            )


def test_every_variable_that_the_documentation_names_is_a_setting() -> None:
    settings = {f"{PREFIX}{field.upper()}" for field in Settings.model_fields}
    pattern = re.compile(rf"\b{PREFIX}[A-Z_]+\b")
    named = {(page.name, name) for page in DOCS for name in pattern.findall(page.read_text(encoding="utf-8"))}
    assert {each for each in named if each[1] not in settings | {f"{PREFIX}TEST_POSTGRESQL_URL"}} == set()


def test_no_variable_is_read_behind_the_settings() -> None:
    settings = {f"{PREFIX}{field.upper()}" for field in Settings.model_fields}
    sources = [
        path for folder in ("autokv", "api", "kernels", "search_spaces") for path in (ROOT / folder).rglob("*.py")
    ]
    named = {name for path in sources for name in re.findall(rf"\b{PREFIX}[A-Z_]+\b", path.read_text(encoding="utf-8"))}
    assert named - {PREFIX} <= settings


def test_every_metric_is_documented_with_its_unit() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]+?) \|", read("docs/metrics.md"), flags=re.MULTILINE))
    assert rows == {name: metric.unit for name, metric in METRICS.items()}


def test_every_method_is_documented() -> None:
    stages = Pipeline.model_fields
    methods = set()
    for field in stages.values():
        union = get_args(field.annotation)
        tag = "rule" if "rule" in union[0].model_fields else "method"
        methods |= {get_args(stage.model_fields[tag].annotation)[0] for stage in union}
    assert methods >= set(SCORERS)
    assert first_cells("docs/methods.md") >= methods - {"none"}


def test_every_input_is_documented() -> None:
    documented = first_cells("docs/configuration.md")
    assert documented >= set(READERS)
    assert documented >= set(search_spaces.names())
    assert [task for task in TASKS if f"`{task}`" not in read("docs/configuration.md")] == []


def test_every_command_and_option_is_documented_and_nothing_else() -> None:
    tree = typer.main.get_command(app)
    assert isinstance(tree, TyperGroup)
    page, tune = read("docs/commands.md").split("## Options of `autokv tune`")
    rows = re.findall(r"^\| `(autokv [^`]+)` \|(.+)$", page, flags=re.MULTILINE)
    documented = {command: set(re.findall(r"`(--[\w-]+)`", row)) for command, row in rows}
    documented["autokv tune"] = set(re.findall(r"`(--[\w-]+)`", tune))
    # The fields of a request are on the generated page, which this one refers to.
    models: dict[str, type[BaseModel]] = {"autokv tune": TuningRequest, "autokv jobs submit": JobSubmission}
    for command, model in models.items():
        documented[command] |= {option_of(name, field) for name, field in model.model_fields.items()} | {"--no-tasks"}
    assert documented == dict(commands(tree))


@pytest.mark.parametrize("page", DOCS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_and_targets_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text)
    broken = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert broken == []
    targets = set(re.findall(r"^([\w-]+):", read("Makefile"), flags=re.MULTILINE))
    assert set(re.findall(r"`make ([a-z-]+)", text)) <= targets


def test_every_decision_is_listed() -> None:
    paths = (ROOT / "docs/decisions").glob("0*.md")
    records = {path.name: path.read_text(encoding="utf-8").partition("\n")[0] for path in paths}
    listed = re.findall(r"^\| (\d+) \| \[(.+)\]\((.+)\) \|$", read("docs/decisions/README.md"), flags=re.MULTILINE)
    assert {name: f"# {number}. {title}" for number, title, name in listed} == records


def test_the_changelog_knows_this_version() -> None:
    assert re.search(rf"^## \[{re.escape(autokv.__version__)}\]", read("CHANGELOG.md"), flags=re.MULTILINE)


def test_the_image_runs_as_a_user_with_a_safe_path() -> None:
    image = read("docker/Dockerfile")
    assert re.search(r"^USER (?!root|0\b)\w+", image, flags=re.MULTILINE)
    assert "PYTHONSAFEPATH=1" in image
