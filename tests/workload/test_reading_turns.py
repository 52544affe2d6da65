"""Conversations of Mooncake's form: their names, and aiperf's turns that come after a delay."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from autokv.workload import WorkloadTrace, read_trace


def read(path: Path, *rows: dict[str, Any], **options: Any) -> WorkloadTrace:  # noqa: ANN401 - read_trace checks them
    path.write_text("\n".join(map(json.dumps, rows)))
    return read_trace(path, **options)


def row(session: str, tokens: int, outputs: int, **more: object) -> dict[str, Any]:
    return {"session_id": session, "input_length": tokens, "output_length": outputs, **more}


def test_a_session_of_whole_prompts_is_read_as_it_stands(tmp_path: Path) -> None:
    trace = read(
        tmp_path / "a",
        row("a", 1024, 50, timestamp=0, hash_ids=[1, 2]),
        row("b", 500, 50, timestamp=600, hash_ids=[9]),
        row("a", 1600, 50, timestamp=5000, hash_ids=[1, 2, 3, 4]),
        {"timestamp": 7000, "input_length": 30, "output_length": 5, "hash_ids": [7]},
    )
    assert trace.session is not None
    assert trace.turn is not None
    first, other, second, alone = trace.session.tolist()
    assert first == second
    assert len({first, other, alone}) == 3
    assert trace.turn.tolist() == [1, 1, 2, 1]
    assert trace.input_tokens.tolist() == [1024, 500, 1600, 30]


def test_a_turn_after_a_delay_has_all_that_was_said_before(tmp_path: Path) -> None:
    trace = read(
        tmp_path / "a",
        row("a", 1100, 100, timestamp=2000, hash_ids=[1, 2, 3]),
        row("a", 300, 50, delay=1500, hash_ids=[8]),
        row("b", 1024, 10, timestamp=2500, hash_ids=[1, 2]),
        row("a", 1000, 20, delay=500, hash_ids=[9, 10]),
    )
    # In order of arrival: a at 2, b at 2.5, a's second 1.5 s after its first, its third 0.5 s after that.
    assert trace.arrival_s.tolist() == [0, 0.5, 1.5, 2]
    assert trace.delay_s is not None
    assert [None if np.isnan(delay) else delay for delay in trace.delay_s] == [None, None, 1.5, 0.5]
    assert trace.input_tokens.tolist() == [1100, 1024, 1100 + 100 + 300, 1500 + 50 + 1000]
    assert trace.turn is not None
    assert trace.turn.tolist() == [1, 1, 2, 3]
    assert trace.prefixes is not None
    first, other, second, third = (trace.prefixes.of(place).tolist() for place in range(4))
    assert first == [1, 2, 3]
    assert other == [1, 2]
    # Of the first turn's 1,100 tokens two blocks of 512 were filled.
    assert second[:2] == [1, 2]
    assert len(second) == 3
    assert second[2] not in {3, 8}
    # The second turn's 1,500 tokens filled the same two; the third shares nothing beyond them.
    assert third[:2] == [1, 2]
    assert len(third) == 5
    assert third[2] not in second
    assert trace.notes[0].startswith("2 turns of conversations: the prompt is what was said before")


def test_blocks_that_a_later_turn_filled_are_shared_too(tmp_path: Path) -> None:
    trace = read(
        tmp_path / "a",
        row("a", 16, 16, timestamp=0, hash_ids=[1]),
        row("a", 16, 16, delay=1, hash_ids=[2]),
        row("a", 16, 16, delay=1, hash_ids=[3]),
        hash_block_size=16,
    )
    assert trace.prefixes is not None
    first, second, third = (trace.prefixes.of(place).tolist() for place in range(3))
    assert [len(first), len(second), len(third)] == [1, 3, 5]
    assert third[:3] == second
    assert second[:1] == first


def test_turns_that_begin_like_the_one_before_are_whole_prompts_also_after_a_delay(tmp_path: Path) -> None:
    trace = read(
        tmp_path / "a",
        row("a", 1024, 100, hash_ids=[1, 2]),
        row("a", 1500, 50, delay=1500, hash_ids=[1, 2, 3]),
    )
    assert trace.arrival_s.tolist() == [0, 1.5]
    assert trace.input_tokens.tolist() == [1024, 1500]
    assert trace.prefixes is not None
    assert trace.prefixes.of(1).tolist() == [1, 2, 3]


def test_a_turn_without_hashes_that_is_shorter_than_what_was_said_adds_to_it(tmp_path: Path) -> None:
    trace = read(tmp_path / "a", row("a", 1000, 100), row("a", 50, 20, delay=10), row("b", 70, 1))
    assert sorted(trace.input_tokens.tolist()) == [70, 1000, 1150]
    assert not read(tmp_path / "b", row("a", 1000, 100), row("b", 50, 20)).timed


def test_the_delay_of_a_first_turn_counts_from_the_first_arrival(tmp_path: Path) -> None:
    rows = [row("b", 10, 10, delay=500), row("a", 10, 10, timestamp=1.7e12), row("a", 50, 10, delay=2000)]
    assert read(tmp_path / "a", *rows[1:], rows[0]).arrival_s.tolist() == [0, 0.5, 2]


def test_a_delay_without_a_session_is_no_time(tmp_path: Path) -> None:
    rows = [row("a", 10, 10, timestamp=0), {"input_length": 5, "output_length": 5, "delay": 7}]
    trace = read(tmp_path / "a", *rows, max_rejected_share=0.5)
    assert "a delay needs a session_id" in trace.rejected.reason


def test_a_row_without_a_time_of_its_own_is_bad_where_others_have_one(tmp_path: Path) -> None:
    rows = [row("a", 10, 10, timestamp=0), row("a", 10, 10), row("a", 50, 10, delay=5)]
    trace = read(tmp_path / "a", *rows, max_rejected_share=0.5)
    assert trace.rejected.lines == (2,)
    assert "timestamp is missing" in trace.rejected.reason
