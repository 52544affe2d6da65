"""Extensions by entry point, from distributions that are really on the path."""

from __future__ import annotations

from pathlib import Path

import pytest

from autokv.errors import PluginError
from autokv.plugins import plugins

GROUP = "autokv.tests"


def install(folder: Path, name: str, points: str, source: str = "THING = 'found'\n") -> None:
    """A distribution as pip leaves it behind: a module and its metadata."""
    (folder / f"{name}.py").write_text(source)
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{GROUP}]\n{points}\n")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_nothing_is_registered_where_nothing_is_installed() -> None:
    assert plugins("autokv.of_nobody") == {}


def test_the_objects_of_every_distribution_are_found_in_order(site: Path) -> None:
    install(site, "second_plugin", "zeta = second_plugin:THING\nbeta = second_plugin:THING", "THING = 2\n")
    install(site, "first_plugin", "gamma = first_plugin:THING", "THING = 1\n")
    assert list(plugins(GROUP).items()) == [("beta", 2), ("gamma", 1), ("zeta", 2)]


def test_one_that_cannot_be_loaded_is_named_with_its_reason_and_what_to_do(site: Path) -> None:
    install(site, "broken_plugin", "bad = broken_plugin:THING", "import a_module_of_nobody\n")
    with pytest.raises(PluginError) as caught:
        plugins(GROUP)
    line = str(caught.value)
    assert line.startswith(f"{GROUP}: bad: broken_plugin:THING cannot be loaded (ModuleNotFoundError: ")
    assert "a_module_of_nobody" in line
    assert line.endswith("`pip uninstall broken_plugin`)")


def test_an_object_that_its_module_lacks_is_named(site: Path) -> None:
    install(site, "lacking_plugin", "gone = lacking_plugin:OTHER")
    with pytest.raises(PluginError, match=r"lacking_plugin:OTHER cannot be loaded.*AttributeError"):
        plugins(GROUP)


def test_two_things_of_one_name_are_refused(site: Path) -> None:
    install(site, "left_plugin", "same = left_plugin:THING")
    install(site, "right_plugin", "same = right_plugin:THING")
    with pytest.raises(PluginError, match=r"left_plugin:THING.*right_plugin:THING|right_plugin:THING.*left_plugin"):
        plugins(GROUP)


def test_one_thing_that_is_seen_twice_is_one(site: Path) -> None:
    install(site, "twice_plugin", "once = twice_plugin:THING\nonce = twice_plugin:THING")
    assert plugins(GROUP) == {"once": "found"}
