"""Budgets keep what must stay, spend exactly what they have, and give it to the right tokens."""

import math

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from autokv.compression.budgets import layer_budgets, select
from autokv.compression.kept import KeptTokens
from autokv.config import Eviction

PARSE = TypeAdapter(Eviction).validate_python
PROPERTY = settings(max_examples=60, deadline=None)


def make_stage(keep=0.5, sinks=0, recent=0, layers="uniform", heads="uniform", window=None):
    """``keep``: a share, or a number of tokens."""
    method = {"method": "snapkv", "options": {"window": window}} if window else {"method": "knorm"}
    return PARSE(
        {
            **method,
            "keep_ratio" if isinstance(keep, float) else "keep_tokens": keep,
            "sink_tokens": sinks,
            "recent_tokens": recent,
            "layer_budget": layers,
            "head_budget": heads,
        }
    )


stages = st.builds(
    make_stage,
    keep=st.floats(0.01, 1.0) | st.integers(1, 70),
    sinks=st.integers(0, 9),
    recent=st.integers(0, 20),
    layers=st.sampled_from(["uniform", "pyramid"]),
    heads=st.sampled_from(["uniform", "adaptive"]),
    window=st.sampled_from([None, 1, 12]),
)


def make_scores(batch, heads, tokens, seed):
    """No two scores are equal."""
    order = torch.randperm(batch * heads * tokens, generator=torch.Generator().manual_seed(seed))
    return order.view(batch, heads, tokens).float()


def rows(kept: KeptTokens) -> list[list[int]]:
    return [part.tolist() for part in kept.positions.tensor_split(kept.offsets[1:-1])]


def asked(stage, tokens):
    return stage.keep_tokens if stage.keep_ratio is None else math.floor(tokens * stage.keep_ratio + 1e-9)


def protected(stage, tokens):
    recent = max(stage.recent_tokens, stage.options.window if stage.method == "snapkv" else 0)
    return {token for token in range(tokens) if token < stage.sink_tokens or token >= tokens - recent}


@given(stages, st.integers(1, 90), st.integers(1, 40))
@PROPERTY
def test_layers_share_exactly_the_uniform_total(stage, tokens, layers):
    budgets = layer_budgets(stage, tokens, layers)
    must = max(len(protected(stage, tokens)), 1)
    uniform = min(tokens, max(asked(stage, tokens), must))
    assert len(budgets) == layers
    assert sum(budgets) == uniform * layers
    assert all(must <= budget <= tokens for budget in budgets)
    assert budgets == sorted(budgets, reverse=True)
    if stage.layer_budget == "uniform":
        assert set(budgets) == {uniform}


@given(stages, st.integers(1, 3), st.integers(1, 4), st.integers(1, 60), st.integers(1, 6), st.integers(0, 99))
@PROPERTY
def test_selection_spends_the_budget_and_keeps_the_protected(stage, batch, heads, tokens, layers, seed):
    scores = make_scores(batch, heads, tokens, seed)
    for layer, budget in enumerate(layer_budgets(stage, tokens, layers)):
        kept = select(scores, stage, layer, layers)
        assert kept.positions.dtype == kept.offsets.dtype == torch.int64
        assert kept.offsets.shape == (batch * heads + 1,)
        assert kept.offsets[-1] == len(kept.positions)
        lengths = kept.offsets.diff().view(batch, heads)
        assert (lengths >= 1).all()
        assert (lengths.sum(1) == heads * budget).all()
        if stage.head_budget == "uniform":
            assert (lengths == budget).all()
        for row in rows(kept):
            assert row == sorted(set(row))
            assert row[-1] < tokens
            assert protected(stage, tokens) <= set(row)


def naive_select(scores, stage, budget):
    """Sets of kept positions by sorting Python lists."""
    batch, heads, tokens = scores.shape
    fixed = protected(stage, tokens)
    free = budget - len(fixed)
    result = []
    for item in range(batch):
        ranked = [
            sorted(set(range(tokens)) - fixed, key=(-scores[item, head]).tolist().__getitem__) for head in range(heads)
        ]
        if stage.head_budget == "uniform":
            own, shared = free, 0
        else:
            own = max(int(0.2 * free), 0 if fixed else 1)
            shared = heads * (free - own)
        kept = [set(order[:own]) for order in ranked]
        rest = [
            (float(scores[item, head, token]), head, token) for head in range(heads) for token in ranked[head][own:]
        ]
        for _, head, token in sorted(rest, reverse=True)[:shared]:
            kept[head].add(token)
        result += [sorted(fixed | tokens_of_head) for tokens_of_head in kept]
    return result


@given(stages, st.integers(1, 2), st.integers(1, 4), st.integers(1, 45), st.integers(0, 99))
@PROPERTY
def test_selection_takes_the_best_as_a_sort_would(stage, batch, heads, tokens, seed):
    scores = make_scores(batch, heads, tokens, seed)
    for layer, budget in enumerate(layer_budgets(stage, tokens, 3)):
        assert rows(select(scores, stage, layer, 3)) == naive_select(scores, stage, budget)


@given(stages, st.permutations(range(4)), st.integers(1, 45), st.integers(0, 99))
@PROPERTY
def test_permuting_heads_permutes_the_result(stage, order, tokens, seed):
    scores = make_scores(1, 4, tokens, seed)
    plain, moved = (rows(select(part, stage, 0, 2)) for part in (scores, scores[:, order]))
    assert moved == [plain[head] for head in order]


@given(stages, st.integers(1, 3), st.integers(1, 45), st.integers(0, 99))
@PROPERTY
def test_batch_items_do_not_touch_each_other(stage, heads, tokens, seed):
    scores = make_scores(3, heads, tokens, seed)
    apart = [row for item in range(3) for row in rows(select(scores[item : item + 1], stage, 1, 2))]
    assert rows(select(scores, stage, 1, 2)) == apart


@given(stages, st.integers(1, 28), st.integers(1, 3))
@PROPERTY
def test_a_context_of_protected_tokens_alone_is_kept_whole(stage, tokens, layers):
    assume(len(protected(stage, tokens)) == tokens)
    assert rows(select(make_scores(1, 2, tokens, 0), stage, 0, layers)) == [list(range(tokens))] * 2


@pytest.mark.parametrize(("tokens", "ratio", "kept"), [(100, 0.29, 29), (100, 0.57, 57), (7, 0.5, 3), (9, 1.0, 9)])
def test_keep_ratio_rounds_down_but_not_past_a_whole_number(tokens, ratio, kept):
    assert layer_budgets(make_stage(ratio), tokens, 2) == [kept, kept]


@pytest.mark.parametrize(("tokens", "kept"), [(1, 1), (63, 63), (64, 64), (65, 64), (100_000, 64)])
def test_a_budget_in_tokens_is_the_same_for_every_longer_context(tokens, kept):
    assert layer_budgets(make_stage(64), tokens, 3) == [kept] * 3


def test_pyramid_is_the_papers_line_above_the_protected_tokens():
    budgets = layer_budgets(make_stage(0.25, sinks=4, recent=46, layers="pyramid"), 1000, 5)
    mean, last = 200, 200 / 20
    assert budgets == [50 + round(2 * mean - last - index * (2 * mean - 2 * last) / 4) for index in range(5)]
    assert budgets == [440, 345, 250, 155, 60]


def test_pyramid_flattens_where_the_first_layer_would_exceed_the_context():
    assert layer_budgets(make_stage(0.8, layers="pyramid"), 100, 5) == [100, 90, 80, 70, 60]


def test_pyramid_leaves_every_layer_a_token():
    assert layer_budgets(make_stage(0.03, layers="pyramid"), 100, 3) == [5, 3, 1]


def test_adaptive_heads_follow_the_scores_down_to_their_floor():
    scores = torch.stack((torch.arange(100.0) + 1000, torch.arange(100.0), torch.arange(100.0) - 1000)).unsqueeze(0)
    kept = select(scores, make_stage(0.5, heads="adaptive"), 0, 1)
    assert kept.offsets.diff().tolist() == [100, 40, 10]
    assert rows(kept)[2] == list(range(90, 100))
    tiny = select(scores, make_stage(0.02, heads="adaptive"), 0, 1)
    assert tiny.offsets.diff().tolist() == [4, 1, 1]


def test_infinite_scores_and_views_that_share_memory_are_selected_too():
    """Scorers mark tokens with infinity, and return one row expanded over the heads."""
    scores = torch.arange(20.0).flip(0)
    scores[[3, 17]] = math.inf
    for heads in ("uniform", "adaptive"):
        kept = select(scores.expand(1, 2, 20), make_stage(0.2, heads=heads), 0, 1)
        assert len(kept.positions) == 8
        assert all({3, 17} <= set(row) for row in rows(kept))
