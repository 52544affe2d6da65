"""The wheel is the tree: everything of the packages, nothing else, importable where only the wheel is."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import autokv

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "autokv": "autokv",
    "api": "autokv/api",
    "kernels": "autokv/kernels",
    "search_spaces": "autokv/search_spaces",
}
"""Folder of the tree to folder of the installation."""
PARTS = {"markupsafe": "jinja2", "pydantic-core": "pydantic", "starlette": "fastapi"}
"""Distributions that only ever come with another."""
OURS = {"autokv", "tests"}
"""The product, and the modules of the tests, which name one another's types."""
RANGES = {"triton"}
"""Held to a range in constraints.txt: torch's CUDA builds pin the one that they work with."""


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def sources(folder: str) -> list[Path]:
    return [
        path
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and not path.name.startswith(".")
    ]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that is built from the sdist that is built from a copy of the tree."""
    copy = tmp_path_factory.mktemp("tree")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    for folder in PACKAGES:
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", "dist"]
    done = subprocess.run(build, cwd=copy, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(list((copy / "dist").glob("*.tar.gz"))) == 1
    (built,) = (copy / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the installed wheel and nothing else."""
    target = tmp_path_factory.mktemp("site")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(target)]
    subprocess.run([*install, str(wheel)], check=True, env=environment())
    return target


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONSAFEPATH": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", **more}


def test_wheel_holds_every_file_of_the_tree_and_no_other(wheel: Path) -> None:
    expected = {
        f"{installed}/{path.relative_to(ROOT / folder).as_posix()}"
        for folder, installed in PACKAGES.items()
        for path in sources(folder)
    }
    names = [name for name in zipfile.ZipFile(wheel).namelist() if not name.endswith("/")]
    held = {name for name in names if not name.startswith(f"autokv-{autokv.__version__}.dist-info/")}
    assert held - expected == set(), "in the wheel, not in the tree"
    assert expected - held == set(), "in the tree, not in the wheel: see [tool.setuptools] in pyproject.toml"


def test_package_list_is_the_tree() -> None:
    listed = project()["tool"]["setuptools"]["packages"]
    found = {
        ".".join([*installed.split("/"), *path.parent.relative_to(ROOT / folder).parts])
        for folder, installed in PACKAGES.items()
        for path in sources(folder)
        if path.suffix == ".py"
    }
    assert set(listed) == found
    assert listed == sorted(listed)


def test_installation_brings_only_autokv(site: Path) -> None:
    brought = {path.name for path in site.iterdir()}
    assert brought == {"autokv", f"autokv-{autokv.__version__}.dist-info", "bin"}
    assert [path.name for path in (site / "bin").iterdir()] == ["autokv"]


def test_every_package_imports_from_the_installation(site: Path, tmp_path: Path) -> None:
    packages = project()["tool"]["setuptools"]["packages"]
    # Alembic runs its migrations itself; outside of it they have no context to import in.
    importable = [package for package in packages if "migrations" not in package]
    program = "import importlib, sys\nfor name in sys.argv[1:]:\n    print(importlib.import_module(name).__file__)\n"
    done = subprocess.run(
        [sys.executable, "-c", program, *importable],
        cwd=tmp_path,
        env=environment(PYTHONPATH=str(site)),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    origins = [Path(line) for line in done.stdout.splitlines()]
    assert [origin.parent.relative_to(site).as_posix().replace("/", ".") for origin in origins] == importable


def test_constraints_pin_every_dependency_within_its_range() -> None:
    settings = project()["project"]
    extras = settings["optional-dependencies"]
    wanted = {
        canonicalize_name(requirement.name): requirement
        for requirement in map(Requirement, [*settings["dependencies"], *extras["demo"], *extras["dev"]])
    }
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    given = [Requirement(line) for line in lines if not line.startswith("#")]
    ranges = {canonicalize_name(requirement.name) for requirement in given if "==" not in str(requirement)}
    assert ranges == RANGES
    pins = {canonicalize_name(name): version for name, version in (line.split("==") for line in lines if "==" in line)}
    assert set(wanted) - set(pins) - RANGES == set(), "a dependency without a pin"
    wanted = {name: requirement for name, requirement in wanted.items() if name in pins}
    outside = [name for name, requirement in wanted.items() if pins[name] not in requirement.specifier]
    assert outside == [], "pinned outside of what pyproject.toml allows"


def third_party(folder: str) -> set[str]:
    """Distributions that the sources of ``folder`` import, by canonical name."""
    distributions = packages_distributions()
    names: set[str] = set()
    for path in sources(folder):
        if path.suffix == ".py":
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    names |= {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module:
                    names.add(node.module.partition(".")[0])
    outside = names - sys.stdlib_module_names - OURS
    found = {canonicalize_name(distributions.get(name, [name])[0]) for name in outside}
    return {PARTS.get(name, name) for name in found}


def declared(lines: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(line).name) for line in lines}


def test_what_is_imported_is_declared() -> None:
    settings = project()["project"]
    dependencies = declared(settings["dependencies"])
    imported = {name for folder in PACKAGES for name in third_party(folder)}
    assert imported - dependencies == set(), "imported by the product, not a dependency"
    development = dependencies | declared(settings["optional-dependencies"]["dev"])
    imported = third_party("tests") - {"kernel-cases"}  # of the benchmarks, beside which the tests lie
    assert imported - development == set(), "imported by the tests, in neither list"
