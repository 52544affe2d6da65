"""The public names: what is promised is there, and nothing is promised by accident."""

from __future__ import annotations

import ast
import importlib.util
import pkgutil
from importlib.abc import InspectLoader

import pytest

import autokv

TOP_LEVEL = [
    "AutoKVError",
    "CompressedCache",
    "CompressionConfig",
    "ConfigurationDocument",
    "__version__",
    "compress",
]
MODULES = [
    module.name for module in pkgutil.walk_packages(autokv.__path__, "autokv.") if ".migrations" not in module.name
]


def test_top_level_names() -> None:
    """A change here is a change of the public interface: say so in CHANGELOG.md."""
    assert sorted(autokv.__all__) == TOP_LEVEL


@pytest.mark.parametrize("name", MODULES)
def test_every_name_in_all_exists(name: str) -> None:
    module = importlib.import_module(name)
    names = getattr(module, "__all__", [])
    assert [missing for missing in names if not hasattr(module, missing)] == []
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("name", MODULES)
def test_every_module_says_what_it_is(name: str) -> None:
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert isinstance(spec.loader, InspectLoader)
    source = spec.loader.get_source(name)
    assert source is not None
    assert ast.get_docstring(ast.parse(source)) or not source, "a module with code and no docstring"
