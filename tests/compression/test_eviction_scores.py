"""Every scorer against a naive float64 restatement of its formula, over the shapes that models have."""

import math
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter

from autokv.compression.context import LayerContext, PrefillStatistics
from autokv.compression.eviction import SCORERS
from autokv.config import Eviction

PARSE = TypeAdapter(Eviction).validate_python

VARIANTS: dict[str, list[dict[str, Any]]] = {
    "streaming_llm": [{}],
    "knorm": [{}],
    "keydiff": [{}],
    "tova": [{}],
    "random": [{}],
    "snapkv": [{"options": {"window": 8, "kernel": 5}}, {"options": {"window": 1, "kernel": 1}}],
    "h2o": [{}, {"options": {"normalize": True}}],
    "lagkv": [
        {"sink_tokens": 4, "options": {"lag": 8}},
        {"sink_tokens": 0, "options": {"lag": 5}, "head_budget": "adaptive"},
        {"sink_tokens": 2, "options": {"lag": 30}},
        {"sink_tokens": 0, "options": {"lag": 100}},
    ],
    "expected_attention": [
        {"options": {"future_positions": 16}},
        {"sink_tokens": 0, "options": {"future_positions": 1}},
        {"options": {"use_covariance": False, "use_value_norm": False}},
    ],
}
CASES = [(name, fields) for name in SCORERS for fields in VARIANTS[name]]
SHAPES = {  # batch, kv_heads, group, tokens, head_dim, rotary_dim
    "gqa": (2, 2, 3, 41, 16, 16),
    "mha": (1, 3, 1, 64, 8, 8),
    "mqa-partial-rotary": (1, 1, 4, 37, 80, 32),
    "no-rope": (1, 2, 2, 33, 16, 0),
}


def make_layer(shape, dtype=torch.float32, seed=0):
    """Keys, values and a context with every statistic; the scaling is not ``1 / sqrt(head_dim)`` on purpose."""
    batch, kv_heads, group, tokens, head_dim, rotary_dim = shape
    draw = torch.Generator().manual_seed(seed)

    def normal(*size):
        return torch.randn(*size, generator=draw)

    factor = normal(batch, kv_heads * group, head_dim, head_dim)
    statistics = PrefillStatistics(
        observed_queries=normal(batch, kv_heads * group, 12, head_dim).to(dtype),
        attention_received=torch.rand(batch, kv_heads, tokens, generator=draw),
        query_mean=normal(batch, kv_heads * group, head_dim),
        query_covariance=factor @ factor.mT / head_dim,
    )

    def rope(positions):
        angles = positions[:, None] * 100.0 ** (-torch.arange(0, rotary_dim, 2) / rotary_dim)
        return torch.cat((angles, angles), dim=-1).cos(), torch.cat((angles, angles), dim=-1).sin()

    keys, values = normal(2, batch, kv_heads, tokens, head_dim).to(dtype)
    return keys, values, LayerContext(3, 5, 0.37, statistics, rope if rotary_dim else None)


def naive_attention(queries, keys, scaling):
    """Rows of causal softmax attention of one head's newest queries; ``queries`` are the last tokens'."""
    rows, (count, tokens) = [], (len(queries), len(keys))
    for index, query in enumerate(queries.double()):
        visible = tokens - count + index + 1
        weights = [math.exp(scaling * float(query @ key)) for key in keys.double()[:visible]]
        rows.append([weight / sum(weights) for weight in weights] + [0.0] * (tokens - visible))
    return torch.tensor(rows, dtype=torch.float64)


def query_heads(keys, head, context):
    group = context.statistics.observed_queries.shape[1] // keys.shape[1]
    return range(head * group, (head + 1) * group)


def naive_snapkv(keys, values, context, stage, item, head):
    window, kernel, tokens = stage.options.window, stage.options.kernel, keys.shape[2]
    queries = context.statistics.observed_queries[item, :, -window:]
    total = sum(
        naive_attention(queries[q], keys[item, head], context.scaling) for q in query_heads(keys, head, context)
    )
    mean = total.mean(0)[: tokens - window] / len(query_heads(keys, head, context))
    scores = []
    for token in range(tokens - window):
        around = range(token - kernel // 2, token + kernel // 2 + 1)
        scores.append(sum(float(mean[near]) for near in around if 0 <= near < tokens - window) / kernel)
    return scores + [math.inf] * window


def naive_tova(keys, values, context, stage, item, head):
    total = torch.zeros(keys.shape[2], dtype=torch.float64)
    for other in range(keys.shape[1]):
        for q in query_heads(keys, other, context):
            last = context.statistics.observed_queries[item, q, -1:]
            total += naive_attention(last, keys[item, other], context.scaling)[0]
    return [*(total[:-1] / context.statistics.observed_queries.shape[1]).tolist(), math.inf]


def naive_h2o(keys, values, context, stage, item, head):
    received = context.statistics.attention_received[item, head].double().tolist()
    if not stage.options.normalize:
        return received
    return [weight / (len(received) - token) for token, weight in enumerate(received)]


def naive_knorm(keys, values, context, stage, item, head):
    return [-math.sqrt(sum(float(x) ** 2 for x in key)) for key in keys[item, head].double()]


def naive_keydiff(keys, values, context, stage, item, head):
    own = keys[item, head].double()
    anchor = sum(key / key.norm() for key in own) / len(own)
    return [-float(key @ anchor / (key.norm() * anchor.norm())) for key in own]


def naive_streaming_llm(keys, values, context, stage, item, head):
    return [float(token) for token in range(keys.shape[2])]


def naive_expected_attention(keys, values, context, stage, item, head):
    sinks, tokens, head_dim = stage.sink_tokens, keys.shape[2], keys.shape[3]
    turn = torch.zeros(head_dim, head_dim, dtype=torch.float64)
    future = range(tokens, tokens + stage.options.future_positions)
    for position in future if context.rope else ():
        cos, sin = (part[0].double() for part in context.rope(torch.tensor([position])))
        half = len(cos) // 2
        one = torch.eye(head_dim, dtype=torch.float64)
        for i in range(len(cos)):
            one[i, i] = cos[i]
            one[i, i + half if i < half else i - half] = -sin[i] if i < half else sin[i]
        turn += one / len(future)
    if context.rope is None:
        turn = torch.eye(head_dim, dtype=torch.float64)
    total, own = torch.zeros(tokens - sinks, dtype=torch.float64), keys[item, head, sinks:].double()
    for q in query_heads(keys, head, context):
        mean = turn @ context.statistics.query_mean[item, q].double()
        covariance = turn @ context.statistics.query_covariance[item, q].double() @ turn.T
        logits = context.scaling * own @ mean
        if stage.options.use_covariance:
            spread = torch.stack([key @ covariance @ key for key in own])
            logits = logits + context.scaling**2 * spread / 2
        total += logits.softmax(0)
    if stage.options.use_value_norm:
        total *= values[item, head, sinks:].double().norm(dim=-1)
    return [math.inf] * sinks + total.tolist()


def naive_lagkv(keys, values, context, stage, item, head):
    lag, sinks, tokens = stage.options.lag, stage.sink_tokens, keys.shape[2]
    partitions = (tokens - sinks) // lag
    if partitions < 2:
        return [math.inf] * sinks + [float(token) for token in range(tokens - sinks)]

    def weights(states, start):
        now, after = states[start : start + lag], states[start + lag : start + 2 * lag]
        low, high = after.min(0).values, after.max(0).values
        deviations = [float(((state - low) / (high - low)).std()) for state in now]
        return [math.exp(x) / sum(math.exp(y) for y in deviations) for x in deviations]

    scores = [math.inf] * sinks
    for index in range(partitions - 1):
        start = sinks + index * lag
        sides = (weights(states[item, head].double(), start) for states in (keys, values))
        mean = [(key + value) / 2 for key, value in zip(*sides, strict=True)]
        if stage.head_budget == "uniform":
            mean = [sorted(mean).index(weight) / lag + index / (lag * partitions) for weight in mean]
        scores += mean
    return scores + [2.0 + token for token in range(tokens - len(scores))]


def naive_random(keys, values, context, stage, item, head):
    """SplitMix64 on Python integers."""
    mask = 2**64 - 1

    def mix(x):
        x = (x + 0x9E3779B97F4A7C15) & mask
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & mask
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & mask
        return x ^ (x >> 31)

    row = mix(mix(mix(stage.options.seed) + context.layer_index) + head)
    return [(mix(row + token) >> 40) / 2**24 for token in range(keys.shape[2])]


def naive_scores(name, keys, values, context, stage):
    one = globals()[f"naive_{name}"]
    rows = [
        [one(keys, values, context, stage, item, head) for head in range(keys.shape[1])]
        for item in range(keys.shape[0])
    ]
    return torch.tensor(rows, dtype=torch.float64)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize(("name", "fields"), CASES, ids=[f"{name}-{n}" for n, (name, _) in enumerate(CASES)])
def test_ranks_tokens_as_the_formula_does(name, fields, shape):
    stage = PARSE({"method": name, "keep_ratio": 0.5, **fields})
    keys, values, context = make_layer(shape)
    scores = SCORERS[name].score(keys, values, context, stage)
    expected = naive_scores(name, keys, values, context, stage)

    assert scores.dtype == torch.float32
    assert scores.shape == keys.shape[:3]
    assert torch.equal(scores.isinf(), expected.isinf())
    # Across the heads of a batch item, because an adaptive head budget compares them.
    for own, naive in zip(scores.flatten(1), expected.flatten(1), strict=True):
        finite = naive.isfinite()
        ranked = naive[finite][own[finite].argsort()]
        assert ranked.unique().numel() > shape[3] // 2
        assert (ranked.diff() >= -1e-5 * ranked.abs().max()).all()


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("name", ["snapkv", "tova", "h2o", "knorm", "keydiff", "streaming_llm", "random"])
def test_scores_are_the_formula_itself(name, shape):
    stage = PARSE({"method": name, "keep_ratio": 0.5, **VARIANTS[name][-1]})
    keys, values, context = make_layer(shape, seed=1)
    scores = SCORERS[name].score(keys, values, context, stage).double()
    torch.testing.assert_close(scores, naive_scores(name, keys, values, context, stage), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_expected_attention_is_the_formulas_logarithm(shape):
    stage = PARSE({"method": "expected_attention", "keep_ratio": 0.5, "options": {"future_positions": 9}})
    keys, values, context = make_layer(shape, seed=2)
    scores = SCORERS["expected_attention"].score(keys, values, context, stage).double().exp()
    expected = naive_scores("expected_attention", keys, values, context, stage)
    torch.testing.assert_close(scores, expected, rtol=1e-3, atol=1e-9)


@pytest.mark.parametrize("name", SCORERS)
def test_16_bit_inputs_are_scored_in_float32(name):
    stage = PARSE({"method": name, "keep_ratio": 0.5, **VARIANTS[name][0]})
    keys, values, context = make_layer(SHAPES["gqa"], dtype=torch.bfloat16)
    scores = SCORERS[name].score(keys, values, context, stage)
    wide = make_layer(SHAPES["gqa"], dtype=torch.bfloat16)[2].statistics.observed_queries.float()
    statistics = PrefillStatistics(**{**vars(context.statistics), "observed_queries": wide})
    exact = LayerContext(context.layer_index, context.layer_count, context.scaling, statistics, context.rope)
    torch.testing.assert_close(scores, SCORERS[name].score(keys.float(), values.float(), exact, stage))


def test_expected_attention_does_not_underflow():
    stage = PARSE({"method": "expected_attention", "keep_ratio": 0.5, "sink_tokens": 0})
    keys, values, context = make_layer(SHAPES["gqa"])
    scores = SCORERS["expected_attention"].score(keys * 30, values, context, stage)
    assert scores.isfinite().all()
    assert all(row.unique().numel() == keys.shape[2] for row in scores.flatten(0, 1))


def test_lagkv_survives_a_channel_that_never_changes():
    fields = {"sink_tokens": 0, "head_budget": "adaptive", "options": {"lag": 8}}
    stage = PARSE({"method": "lagkv", "keep_ratio": 0.5, **fields})
    keys, values, context = make_layer(SHAPES["gqa"])
    keys[..., 3] = 0
    values[..., 5] = 1
    assert SCORERS["lagkv"].score(keys, values, context, stage).isfinite().all()


@pytest.mark.parametrize("name", ["snapkv", "expected_attention"])
def test_a_context_that_is_all_protected_scores_infinity(name):
    fields = {"options": {"window": 5}} if name == "snapkv" else {"sink_tokens": 9}
    stage = PARSE({"method": name, "keep_ratio": 0.5, **fields})
    keys, values, context = make_layer((1, 2, 2, 5, 8, 8))
    assert SCORERS[name].score(keys, values, context, stage).isposinf().all()
