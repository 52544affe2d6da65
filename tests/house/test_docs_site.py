"""The documentation's site: generated pages, links that leave docs/, and nothing from other hosts."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import typer
import yaml
from typer.core import TyperGroup

from autokv.api.app import create_app
from autokv.cli.main import app
from autokv.settings import PREFIX, Settings

ROOT = Path(__file__).parents[2]
REPOSITORY = "https://example.org/project"


@pytest.fixture(scope="module")
def hooks() -> Iterator[ModuleType]:
    """``docs/building/hooks.py``, loaded as MkDocs loads it."""
    folder = ROOT / "docs" / "building"
    before = dict(sys.modules)
    sys.path.insert(0, str(folder))
    spec = importlib.util.spec_from_file_location("docs_hooks", folder / "hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.path.remove(str(folder))
    yield module
    for name in ("cli", "http_api", "outside", "settings", "tables"):
        if name not in before:
            del sys.modules[name]


def test_every_setting_is_on_its_page_with_its_default(hooks: ModuleType) -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| (.*?) \| (.*?) \| (.+) \|$", hooks.GENERATED["settings"](), re.M)
    assert [row[0] for row in rows] == [f"{PREFIX}{name.upper()}" for name in Settings.model_fields]
    by_name = {row[0]: row[1:] for row in rows}
    assert by_name["AUTOKV_LEASE_SECONDS"][:3] == ("number", "`30`", "≥ 0.5, ≤ 3600")
    assert by_name["AUTOKV_OFFLINE"][:3] == ("true or false", "`false`", "")
    assert by_name["AUTOKV_RETENTION_DAYS"][:3] == ("number", "unset", "> 0")
    assert str(Path.home()) not in str(rows)


def test_every_command_and_option_is_on_its_page(hooks: ModuleType) -> None:
    page = hooks.GENERATED["cli"]()
    sections = dict(re.findall(r"^## (autokv [\w -]+)\n(.*?)(?=^## |\Z)", page, re.M | re.S))

    def walk(group: TyperGroup, path: str) -> Iterator[str]:
        for name, command in group.commands.items():
            if getattr(command, "hidden", False):
                continue
            if isinstance(command, TyperGroup):
                yield from walk(command, f"{path} {name}")
                continue
            yield f"{path} {name}"
            shown = [each for each in command.params if not getattr(each, "hidden", False) and each.name != "help"]
            for parameter in shown:
                names = [name for name in (*parameter.opts, *parameter.secondary_opts) if name.startswith("--")]
                assert all(
                    re.search(rf"^\| `.*{name}\b.*` \|", sections[f"{path} {command.name}"], re.M) for name in names
                )

    tree = typer.main.get_command(app)
    assert isinstance(tree, TyperGroup)
    assert list(walk(tree, "autokv")) == list(sections)
    assert "0.01" in next(line for line in sections["autokv trace inspect"].splitlines() if "--max-bad-rows" in line)


def test_every_operation_and_schema_is_on_its_page(hooks: ModuleType) -> None:
    page = hooks.GENERATED["http-api"]()
    document = create_app("sqlite://").openapi()
    operations = [f"{method.upper()} {path}" for path, methods in document["paths"].items() for method in methods]
    headings = re.findall(r"^### (.+)$", page, re.M)
    assert set(headings) == {*operations, *document["components"]["schemas"]}
    assert len(headings) == len(set(headings))
    anchors = {heading.lower() for heading in document["components"]["schemas"]}
    assert set(re.findall(r"\]\(#([^)]+)\)", page)) <= anchors


@pytest.mark.parametrize("page", sorted((ROOT / "docs/reference").glob("*.md")), ids=lambda path: path.name)
def test_reference_pages_name_generators_that_exist(hooks: ModuleType, page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named = re.findall(r"^<!-- generated: ([\w-]+) -->$", text, re.M)
    assert named or ":::" in text
    assert set(named) <= set(hooks.GENERATED)


@pytest.mark.parametrize(
    ("link", "source", "page", "expected"),
    [
        ("metrics.md", "docs/serving.md", "serving.md", "metrics.md"),
        ("../metrics.md#x", "docs/how-to/deploy.md", "how-to/deploy.md", "../metrics.md#x"),
        ("docs/metrics.md", "CONTRIBUTING.md", "contributing.md", "metrics.md"),
        ("docs/decisions/", "CONTRIBUTING.md", "contributing.md", "decisions/README.md"),
        ("CHANGELOG.md", "CONTRIBUTING.md", "contributing.md", "changelog.md"),
        ("../../CHANGELOG.md", "docs/reference/python.md", "reference/python.md", "../changelog.md"),
        ("../benchmarks/README.md", "docs/serving.md", "serving.md", f"{REPOSITORY}/blob/main/benchmarks/README.md"),
        ("../search_spaces", "docs/configuration.md", "configuration.md", f"{REPOSITORY}/tree/main/search_spaces"),
        ("#traces", "docs/commands.md", "commands.md", "#traces"),
        ("https://example.com/a", "docs/commands.md", "commands.md", "https://example.com/a"),
    ],
)
def test_links_lead_to_pages_or_to_the_repository(
    hooks: ModuleType, link: str, source: str, page: str, expected: str
) -> None:
    assert hooks.address(link, ROOT / source, page, REPOSITORY) == expected


def test_what_a_page_loads_from_elsewhere_is_seen(hooks: ModuleType) -> None:
    page = """
        <link rel="stylesheet" href="//fonts.example.com/a.css"><link rel="canonical" href="https://example.org/page">
        <script src="https://cdn.example.com/a.js"></script><script src="assets/own.js"></script>
        <img src=https://img.example.com/b.png><a href="https://example.org">followed, not loaded</a>
        <p style="background: url('https://img.example.com/c.png')">https://example.org</p>
    """
    assert list(hooks.outside.loads(page, ".html")) == [
        "//fonts.example.com/a.css",
        "https://cdn.example.com/a.js",
        "https://img.example.com/b.png",
        "https://img.example.com/c.png",
    ]
    style = '@import "https://a.example.com/x.css"; a { background: url(data:image/png;base64,AA==) url(own.png) }'
    assert list(hooks.outside.loads(style, ".css")) == ["https://a.example.com/x.css"]


def test_every_page_has_its_place() -> None:
    """``mkdocs build --strict`` checks it too; this one needs no build."""
    site = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))

    def pages(nav: object) -> Iterator[str]:
        if isinstance(nav, str):
            yield nav
        elif isinstance(nav, dict):
            for value in nav.values():
                yield from pages(value)
        elif isinstance(nav, list):
            for each in nav:
                yield from pages(each)

    listed = list(pages(site["nav"]))
    assert len(listed) == len(set(listed))
    there = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    expected = {path for path in there if not re.match(r"decisions/0", path)}
    assert set(listed) == expected | {"changelog.md", "contributing.md", "security.md"}
