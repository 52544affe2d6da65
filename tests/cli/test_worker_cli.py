"""``autokv worker`` as it is called wrongly."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Run = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize(
    ("options", "field"),
    [
        (["--labels", "zone"], "--labels"),
        (["--labels", "zone=a b"], "--labels"),
        (["--name", "no spaces here"], "--name"),
        (["--gpus", "2"], "--gpus"),
        (["--executor", "dask"], "--executor"),
        (["--drain-seconds", "-1"], "--drain-seconds"),
        (["--device", "cuda:99"], "device"),
        (["--database", "postgresql://nobody:secret@127.0.0.1:1/none"], "127.0.0.1"),
    ],
)
def test_what_is_wrong_is_one_line_that_names_it(
    autokv: Run, monkeypatch: pytest.MonkeyPatch, options: list[str], field: str
) -> None:
    monkeypatch.setattr("autokv.api.logs.install", lambda: None)  # it replaces the handlers of this process
    code, _, err = autokv("worker", *options)
    assert code == 2
    assert field in err
    assert len(err.strip().splitlines()) == 1, err
    assert "secret" not in err
