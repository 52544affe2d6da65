"""Who imports whom, and what must not be imported by accident."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(program: str, **environment: str) -> str:
    """What ``program`` prints when Python runs it in the repository's root."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, "PYTHONSAFEPATH": "1", **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_transformers_imports_from_the_repository_root() -> None:
    program = (
        "import sys\n"
        "from transformers import LlamaForCausalLM\n"
        "shadow = sys.modules.get('kernels')\n"
        "print(LlamaForCausalLM.__name__, getattr(shadow, '__file__', None))\n"
    )
    name, shadow = run(program).split(maxsplit=1)
    assert name == "LlamaForCausalLM"
    assert not shadow.startswith(str(ROOT / "kernels"))


def test_the_tests_themselves_do_not_shadow_the_package_kernels() -> None:
    found = importlib.util.find_spec("kernels")
    assert found is None or found.origin != str(ROOT / "kernels" / "__init__.py"), (
        "the repository's root is on sys.path: run `pytest`, not `python -m pytest`, with PYTHONSAFEPATH=1"
    )
    assert list((ROOT / "tests").rglob("__init__.py")) == []


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("autokv", {"torch", "transformers", "optuna", "sqlalchemy"}),
        ("autokv.config", {"torch", "transformers", "optuna", "sqlalchemy"}),
        ("autokv.formats", {"torch", "numpy", "scipy"}),
        ("autokv.cli.main", {"torch", "transformers", "optuna", "sqlalchemy"}),
        ("autokv.storage", {"optuna", "torch", "transformers"}),
        ("autokv.api", {"optuna", "torch", "transformers", "pyarrow"}),
        ("autokv.client", {"optuna", "torch", "transformers", "sqlalchemy", "fastapi"}),
        ("autokv.models.offered", {"optuna", "torch", "transformers"}),
        ("autokv.report", {"optuna", "torch", "transformers"}),
    ],
)
def test_what_a_module_does_not_load(module: str, heavy: set[str]) -> None:
    loaded = run(f"import sys, {module}; print(*{{name.partition('.')[0] for name in sys.modules}})")
    assert heavy & set(loaded.split()) == set()


def test_import_contracts_hold(tmp_path: Path) -> None:
    """import-linter reads files where they would be installed; links lay them out so."""
    package = tmp_path / "autokv"
    package.mkdir()
    for entry in (*(ROOT / "autokv").iterdir(), ROOT / "api", ROOT / "kernels", ROOT / "search_spaces"):
        (package / entry.name).symlink_to(entry)
    lint = [str(Path(sys.executable).with_name("lint-imports")), "--no-logo", "--no-cache"]
    done = subprocess.run(
        [*lint, "--config", str(ROOT / ".importlinter")], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 broken" in done.stdout
