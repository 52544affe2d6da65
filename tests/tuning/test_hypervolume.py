"""Hypervolume and the front against naive references, and their properties."""

from __future__ import annotations

from itertools import combinations, pairwise
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from autokv.tuning.hypervolume import Box, history, hypervolume
from autokv.tuning.pareto import dominates, non_dominated

GRID = st.integers(0, 6).map(lambda level: level / 4)  # ties happen; some points lie beyond the reference


WIDTHS = st.integers(1, 4)


def points(most: int, fewest: int = 0, widths: st.SearchStrategy[int] = WIDTHS) -> st.SearchStrategy[np.ndarray]:
    return widths.flatmap(
        lambda width: st.integers(fewest, most).flatmap(lambda count: arrays(np.float64, (count, width), elements=GRID))
    )


def inclusion_exclusion(array: np.ndarray, reference: np.ndarray) -> float:
    """The union of boxes, by the sum over all subsets."""
    total = 0.0
    for size in range(1, len(array) + 1):
        for subset in combinations(array, size):
            edges = np.clip(reference - np.max(subset, axis=0), 0, None)
            total += (-1) ** (size + 1) * float(edges.prod())
    return total


@given(points(7))
def test_hypervolume_is_the_volume_of_the_union(array: np.ndarray) -> None:
    reference = np.ones(array.shape[1])
    assert hypervolume(array, reference) == pytest.approx(inclusion_exclusion(array, reference), abs=1e-12)


@pytest.mark.parametrize("objectives", [2, 3, 4])
def test_hypervolume_agrees_with_monte_carlo(objectives: int) -> None:
    rng = np.random.default_rng(objectives)
    array = rng.random((40, objectives)) ** 0.5
    darts = rng.random((60_000, objectives))
    hit = np.zeros(len(darts), dtype=bool)
    for point in array:
        hit |= (darts >= point).all(axis=1)
    assert hypervolume(array, np.ones(objectives)) == pytest.approx(hit.mean(), abs=0.01)


@given(points(12, fewest=1), st.randoms())
def test_hypervolume_needs_the_front_only(array: np.ndarray, random: Random) -> None:
    reference = np.full(array.shape[1], 1.25)
    order = list(range(len(array)))
    random.shuffle(order)
    whole = hypervolume(array, reference)
    assert hypervolume(array[order], reference) == pytest.approx(whole)
    assert hypervolume(array[non_dominated(array.tolist())], reference) == pytest.approx(whole)


@given(points(15, fewest=1))
def test_front_beats_all_the_rest_and_nothing_of_itself(array: np.ndarray) -> None:
    front = non_dominated(array.tolist())
    assert front
    for index, point in enumerate(array):
        beaten = any(dominates(array[other], point) for other in front)
        repeated = any(other < index and (array[other] == point).all() for other in front)
        assert (index in front) == (not beaten and not repeated)


@given(points(12, fewest=1))
def test_history_rises_to_the_share_of_all(array: np.ndarray) -> None:
    rows: list[tuple[float, ...] | None] = [tuple(row) for row in array]
    rows.insert(1, None)
    shares = history(rows)
    assert len(shares) == len(rows)
    assert all(earlier <= later for earlier, later in pairwise(shares))
    assert shares[1] == shares[0]
    assert shares[-1] == pytest.approx(Box.around(array).share(array))
    assert 0 < shares[0] <= shares[-1] <= 1


def test_history_without_any_measurement_is_flat() -> None:
    assert history([None, None]) == (0.0, 0.0)
    assert history([]) == ()


@given(points(10, fewest=2, widths=st.just(3)), st.floats(0.1, 100), st.floats(-5, 5))
def test_history_does_not_depend_on_units(array: np.ndarray, scale: float, shift: float) -> None:
    plain = history([tuple(row) for row in array])
    assert history([tuple(row) for row in array * scale + shift]) == pytest.approx(plain, abs=1e-6)
