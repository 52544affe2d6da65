"""Settings come from the environment, typed; what makes no sense is refused with the variable's name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from autokv.errors import RequestError
from autokv.settings import PREFIX, Settings, current


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(PREFIX):
            monkeypatch.delenv(name)


def test_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    settings = current()
    assert settings.cache_dir == Path.home() / ".cache" / "autokv"
    assert settings.database_url == "sqlite:///autokv.db"
    assert settings.model_roots == ()
    assert settings.prefill_seconds == 120
    assert settings.offline is False


def test_the_cache_follows_the_platform(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert current().cache_dir == tmp_path / "autokv"


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("CACHE_DIR", "~/elsewhere", Path.home() / "elsewhere"),
        ("DATABASE_URL", "sqlite:///x.db", "sqlite:///x.db"),
        ("MODEL_ROOTS", os.pathsep.join(["/a", "~/b", ""]), (Path("/a"), Path.home() / "b")),
        ("MODEL_ROOTS", "", ()),
        ("KERNELS", "torch", "torch"),
        ("CPU_CACHE_BYTES", "65536", 65536),
        ("PREFILL_SECONDS", "2.5", 2.5),
        ("OFFLINE", "1", True),
    ],
)
def test_a_variable_sets_its_field(monkeypatch: pytest.MonkeyPatch, name: str, value: str, expected: object) -> None:
    monkeypatch.setenv(PREFIX + name, value)
    assert getattr(current(), name.lower()) == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [("PREFILL_SECONDS", "soon"), ("PREFILL_SECONDS", "0"), ("PREFILL_SECONDS", "inf"), ("OFFLINE", "perhaps")],
)
def test_a_bad_value_is_refused_by_the_name_of_its_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(PREFIX + name, value)
    with pytest.raises(RequestError, match=f"^{PREFIX}{name}: .*got '{value}'") as refusal:
        current()
    assert "\n" not in str(refusal.value)


def test_every_setting_is_described() -> None:
    assert all(field.description for field in Settings.model_fields.values())
