"""Files that other programs read: workflows, forms, the metadata of the package, the site's configuration."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
TARGETS = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def load(path: Path) -> dict[str, Any]:
    return dict(yaml.safe_load(path.read_text(encoding="utf-8")))


def steps(workflow: Path) -> Iterator[dict[str, Any]]:
    for job in load(workflow)["jobs"].values():
        yield from job["steps"]


@pytest.mark.parametrize("path", sorted((ROOT / ".github").rglob("*.yml")), ids=lambda path: path.name)
def test_every_file_is_yaml(path: Path) -> None:
    assert load(path)


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_call_make_with_targets_that_exist(workflow: Path) -> None:
    called = [word for step in steps(workflow) for line in step.get("run", "").splitlines() for word in line.split()]
    assert called
    targets = {word for word in called[1:] if re.fullmatch(r"[a-z-]+", word) and word != "make"}
    assert targets
    assert targets <= TARGETS
    assert {step["run"].split()[0] for step in steps(workflow) if "run" in step} == {"make"}


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_and_may_little(workflow: Path) -> None:
    document = load(workflow)
    used = [step["uses"] for step in steps(workflow) if "uses" in step]
    assert used
    assert [name for name in used if not re.fullmatch(r"[\w-]+/[\w-]+@(?:v\d+|release/v\d+)", name)] == []
    assert document["permissions"] == {"contents": "read"}
    granted = {name: job["permissions"] for name, job in document["jobs"].items() if "permissions" in job}
    assert granted == ({"publish": {"id-token": "write"}} if workflow.name == "release.yml" else {})
    assert all("timeout-minutes" in job for job in document["jobs"].values())
    checkouts = [step for step in steps(workflow) if step.get("uses", "").startswith("actions/checkout")]
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


def test_the_tests_run_on_every_python_that_the_package_names() -> None:
    prefix = "Programming Language :: Python :: 3."
    named = {each.rpartition(" ")[2] for each in PROJECT["classifiers"] if each.startswith(prefix)}
    matrix = load(ROOT / ".github/workflows/ci.yml")["jobs"]["test"]["strategy"]["matrix"]["python"]
    assert set(matrix) == named
    assert PROJECT["requires-python"] == f">={min(named)}"


def test_every_address_of_the_project_is_one() -> None:
    repository = PROJECT["urls"]["Source"]
    assert all(address.startswith(repository) for address in PROJECT["urls"].values())
    assert load(ROOT / "mkdocs.yml")["extra"]["repository"] == repository
    for path in [*(ROOT / ".github").rglob("*.*ml"), *(ROOT / "docs").rglob("*.md")]:
        for address in re.findall(r"https://github\.com/autokv[\w./-]*", path.read_text(encoding="utf-8")):
            assert address.startswith(repository), f"{path.name}: {address}"


def test_the_forms_have_what_a_form_needs() -> None:
    for path in (ROOT / ".github/ISSUE_TEMPLATE").glob("[!c]*.yml"):
        form = load(path)
        assert form.keys() >= {"name", "description", "body"}
        assert len({field["id"] for field in form["body"]}) == len(form["body"])
        assert all(field["attributes"]["label"] for field in form["body"])
