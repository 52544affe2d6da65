"""Launch configurations: looked up at once, measured on request, kept for other processes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from autokv.errors import StorageError
from autokv.kernels import autotune
from autokv.kernels.autotune import Choice, Launch, bucket, choose, store, tune

SMALL, LARGE, HUGE = Launch.of(warps=2, TOKENS=32), Launch.of(warps=4, TOKENS=64), Launch.of(warps=8, TOKENS=128)
CANDIDATES = (SMALL, LARGE, HUGE)
KEY = ("int4", 128, bucket(4000))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("AUTOKV_CACHE_DIR", str(tmp_path))
    autotune.forget()
    yield tmp_path / "kernels"
    autotune.forget()


def kernel(times: dict[Launch, float], log: list[Launch], name: str = "attend") -> Callable[[], float]:
    """An operation that launches one kernel, and takes as long as ``times`` says."""

    def operation() -> float:
        launch = choose(name, KEY, CANDIDATES)
        log.append(launch)
        if launch not in times:
            raise RuntimeError("out of resources: shared memory")
        return times[launch]

    return operation


def by_result(operation: Callable[[], object]) -> float:
    result = operation()
    assert isinstance(result, float)
    return result


def test_buckets_are_the_powers_of_two_above() -> None:
    assert [bucket(length) for length in (0, 1, 2, 3, 4, 5, 1023, 1024, 1025)] == [1, 1, 2, 4, 4, 8, 1024, 1024, 2048]


def test_without_a_measurement_the_first_candidate_is_taken_and_nothing_is_written(folder: Path) -> None:
    assert choose("attend", KEY, CANDIDATES) == SMALL
    assert choose("attend", KEY, CANDIDATES[1:]) == LARGE
    assert not folder.exists()


def test_the_fastest_candidate_is_kept_for_the_processes_that_follow(folder: Path) -> None:
    (choice,) = tune(kernel({SMALL: 3.0, LARGE: 1.0, HUGE: 2.0}, []), by_result)
    assert choice.launch == LARGE
    assert choose("attend", KEY, CANDIDATES) == LARGE
    assert choose("attend", ("int4", 128, bucket(9000)), CANDIDATES) == SMALL
    assert choose("gather", KEY, CANDIDATES) == SMALL
    program = (
        "from autokv.kernels.autotune import Launch, choose\n"
        "candidates = [Launch.of(warps=w, TOKENS=t) for w, t in ((2, 32), (4, 64), (8, 128))]\n"
        f"print(choose('attend', {KEY!r}, candidates)['TOKENS'])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "64\n"


def test_a_candidate_that_does_not_run_is_passed_over() -> None:
    (choice,) = tune(kernel({SMALL: 3.0, HUGE: 2.0}, []), by_result)
    assert choice.launch == HUGE
    assert set(choice.microseconds) == {SMALL, HUGE}


def test_kernels_of_one_operation_are_tuned_one_after_the_other() -> None:
    first: list[Launch] = []
    second: list[Launch] = []
    one = kernel({SMALL: 3.0, LARGE: 1.0, HUGE: 2.0}, first, "one")
    two = kernel({SMALL: 3.0, LARGE: 4.0, HUGE: 2.0}, second, "two")
    choices = tune(lambda: one() + two(), by_result)
    assert [choice.launch for choice in choices] == [LARGE, HUGE]
    # While the second kernel is tuned, the first one already runs as it runs best.
    assert set(first[-2 * len(CANDIDATES) :]) == {LARGE}


def test_a_kernel_with_one_candidate_is_not_measured(folder: Path) -> None:
    assert tune(lambda: choose("attend", KEY, CANDIDATES[:1]), lambda operation: pytest.fail("measured")) == []
    assert not folder.exists()


def test_a_launch_that_is_no_longer_offered_is_not_taken() -> None:
    tune(kernel({SMALL: 3.0, LARGE: 1.0, HUGE: 2.0}, []), by_result)
    assert choose("attend", KEY, (HUGE, SMALL)) == HUGE


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"{",
        b"[" * 100_000,
        b"[]",
        b'{"schema_version": "autokv/launches/v1"}',
        b'{"schema_version": "autokv/launches/v1", "launches": 3}',
        b'{"schema_version": "autokv/launches/v2", "launches": {}}',
    ],
)
def test_a_damaged_file_is_no_file_and_is_replaced(folder: Path, content: bytes) -> None:
    path = autotune.launches_file(autotune.device_name())
    folder.mkdir()
    path.write_bytes(content)
    assert choose("attend", KEY, CANDIDATES) == SMALL
    tune(kernel({SMALL: 3.0, LARGE: 1.0, HUGE: 2.0}, []), by_result)
    assert choose("attend", KEY, CANDIDATES) == LARGE
    assert [one.name for one in folder.iterdir() if one.suffix == ".tmp"] == []


@pytest.mark.parametrize("entry", [3, None, [], {}, {"warps": 2}, {"warps": 2, "stages": 2, "sizes": {"TOKENS": {}}}])
def test_a_damaged_entry_is_no_entry(folder: Path, entry: object) -> None:
    tune(kernel({SMALL: 3.0, LARGE: 1.0, HUGE: 2.0}, []), by_result)
    (path,) = folder.glob("*.json")
    document = json.loads(path.read_text())
    document["launches"] = dict.fromkeys(document["launches"], entry)
    path.write_text(json.dumps(document))
    autotune.forget()
    assert choose("attend", KEY, CANDIDATES) == SMALL


def test_processes_that_store_at_once_lose_nothing(folder: Path) -> None:
    program = (
        "import sys\n"
        "from autokv.kernels.autotune import Choice, Launch, store\n"
        "for index in range(20):\n"
        "    store([Choice(f'kernel-{sys.argv[1]}-{index}', (1,), Launch.of(), {})], 'shared')\n"
    )
    running = [subprocess.Popen([sys.executable, "-c", program, str(name)]) for name in range(3)]
    assert [process.wait(timeout=120) for process in running] == [0, 0, 0]
    assert autotune.stored_launches("shared") == 60
    json.loads(autotune.launches_file("shared").read_text())


def test_a_folder_that_cannot_be_written_is_one_clear_error(folder: Path) -> None:
    folder.parent.joinpath("kernels").write_text("a file in its place")
    with pytest.raises(StorageError, match="set AUTOKV_CACHE_DIR"):
        store([Choice("attend", KEY, SMALL, {})], "some device")
