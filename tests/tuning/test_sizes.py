"""Sizes of memory, as people write them at every door."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from autokv import settings
from autokv.cli.options import byte_size
from autokv.errors import RequestError
from autokv.tuning.request import TuningRequest, read_request_file
from autokv.wire import JobSubmission

WRITTEN = [
    ("2GiB", 2.0 * 1024**3),
    ("2 gib", 2.0 * 1024**3),
    ("500MB", 5e8),
    ("1.5 KiB", 1536.0),
    ("3g", 3e9),
    ("7", 7.0),
    ("1e9", 1e9),
]
WRONG = ["", "0", "-1GB", "2GiB/s", "1.5.3GB", "much", "2 GiB 3", "inf", "nan", "2Gbit"]


@pytest.mark.parametrize(("text", "size"), [*WRITTEN, (2.5e9, 2.5e9), (1 << 31, float(1 << 31))])
def test_a_size_is_stored_as_its_number_of_bytes(text: object, size: float) -> None:
    for kind in (TuningRequest, JobSubmission):
        request = kind.model_validate({"model": "m", "workload": "w", "kv_memory": text})
        assert request.model_dump(mode="json")["kv_memory"] == size
        assert kind.model_validate(request.model_dump(mode="json")) == request
    if isinstance(text, str):
        assert byte_size(text, "--kv-memory") == size


@pytest.mark.parametrize("text", WRONG)
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValidationError, match="kv_memory"):
        TuningRequest.model_validate({"model": "m", "workload": "w", "kv_memory": text})
    with pytest.raises(RequestError, match=r"--kv-memory: .*is not a size; such as 2GiB"):
        byte_size(text, "--kv-memory")


def test_a_request_file_and_a_setting_take_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "request.yaml"
    file.write_text("model: m\nworkload: w\nkv_memory: 2GiB\n")
    assert TuningRequest.model_validate(read_request_file(file)).kv_memory == 2 * 1024**3
    monkeypatch.setenv("AUTOKV_MAX_UPLOAD_BYTES", "3MiB")
    assert settings.Settings().max_upload_bytes == 3 * 1024**2
