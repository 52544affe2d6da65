"""What every registered scorer must do, a new one included."""

from collections.abc import Sequence

import pytest
import torch
from pydantic import TypeAdapter

from autokv.compression.budgets import select
from autokv.compression.context import LayerContext, PrefillStatistics, StatisticsNeeded
from autokv.compression.eviction import SCORERS, Block, scorer_of
from autokv.config import CompressionConfig, Eviction
from autokv.errors import ConfigError

PARSE = TypeAdapter(Eviction).validate_python
BATCH, HEADS, GROUP, TOKENS, HEAD_DIM = 2, 3, 2, 70, 8


def configured_methods() -> set[str]:
    """Every eviction method that the published schema knows."""
    schema = CompressionConfig.model_json_schema()
    return set(schema["$defs"]["Pipeline"]["properties"]["eviction"]["discriminator"]["mapping"]) - {"none"}


def make_stage(name, **fields):
    options = {"options": {"window": 16}} if name == "snapkv" else {}
    return PARSE({"method": name, "keep_ratio": 0.4, "sink_tokens": 2, "recent_tokens": 5, **options, **fields})


def make_layer(
    needs: StatisticsNeeded | None = None, head_order: Sequence[int] = (0, 1, 2)
) -> tuple[torch.Tensor, torch.Tensor, LayerContext]:
    """A layer that holds exactly the statistics that ``needs`` names (all of them by default), heads reordered."""
    needs = needs or StatisticsNeeded(16, True, True)
    torch.manual_seed(0)
    keys, values = torch.randn(2, BATCH, HEADS, TOKENS, HEAD_DIM)[:, :, list(head_order)]
    queries = torch.randn(BATCH, HEADS, GROUP, 16, HEAD_DIM)[:, list(head_order)].flatten(1, 2)
    received = torch.rand(BATCH, HEADS, TOKENS)[:, list(head_order)]
    mean = torch.randn(BATCH, HEADS, GROUP, HEAD_DIM)[:, list(head_order)].flatten(1, 2)
    covariance = torch.eye(HEAD_DIM).expand(BATCH, HEADS * GROUP, HEAD_DIM, HEAD_DIM)
    statistics = PrefillStatistics(
        queries[:, :, -needs.observation_window :] if needs.observation_window else None,
        received if needs.attention_received else None,
        mean if needs.query_moments else None,
        covariance if needs.query_moments else None,
    )
    return keys, values, LayerContext(1, 4, 0.3, statistics)


def rows(kept):
    return [part.tolist() for part in kept.positions.tensor_split(kept.offsets[1:-1])]


def test_scorers_and_configuration_name_the_same_methods():
    assert set(SCORERS) == configured_methods()


@pytest.mark.parametrize("name", SCORERS)
def test_reads_only_what_it_needs(name):
    stage = make_stage(name)
    scorer = SCORERS[name]
    full = scorer.score(*make_layer(), stage)
    assert full.shape == (BATCH, HEADS, TOKENS)
    assert not full.isnan().any()
    assert torch.equal(full, scorer.score(*make_layer(scorer.needs(stage)), stage))


@pytest.mark.parametrize("name", SCORERS)
def test_says_which_statistic_is_missing(name):
    stage = make_stage(name)
    needs = SCORERS[name].needs(stage)
    keys, values, context = make_layer()
    bare = LayerContext(context.layer_index, context.layer_count, context.scaling)
    if needs == StatisticsNeeded():
        assert SCORERS[name].score(keys, values, bare, stage).shape == keys.shape[:3]
        return
    with pytest.raises(ConfigError, match=r"pipeline\.eviction\.method: reads \w+, which the prefill did not collect"):
        SCORERS[name].score(keys, values, bare, stage)


@pytest.mark.parametrize("name", SCORERS)
def test_leaves_its_inputs_alone(name):
    keys, values, context = make_layer()
    select(SCORERS[name].score(keys, values, context, make_stage(name)), make_stage(name), 1, 4)
    again, more, fresh = make_layer()
    assert torch.equal(keys, again)
    assert torch.equal(values, more)
    for field, tensor in vars(fresh.statistics).items():
        assert torch.equal(getattr(context.statistics, field), tensor)


@pytest.mark.parametrize("head_budget", ["uniform", "adaptive"])
@pytest.mark.parametrize("name", sorted(set(SCORERS) - {"random"}))
def test_heads_may_come_in_any_order(name, head_budget):
    """Each head keeps its own tokens; where scores tie across heads (TOVA), only how many in all is defined."""
    if name == "streaming_llm" and head_budget == "adaptive":
        with pytest.raises(ValueError, match="head_budget"):
            make_stage(name, head_budget=head_budget)
        return
    stage, order = make_stage(name, head_budget=head_budget), (2, 0, 1)
    plain = rows(select(SCORERS[name].score(*make_layer(), stage), stage, 1, 4))
    moved = rows(select(SCORERS[name].score(*make_layer(head_order=order), stage), stage, 1, 4))
    expected = [plain[item * HEADS + head] for item in range(BATCH) for head in order]
    if (name, head_budget) == ("tova", "adaptive"):
        assert sum(map(len, moved)) == sum(map(len, expected))
    else:
        assert moved == expected


@pytest.mark.parametrize("name", ["snapkv", "tova"])
def test_a_window_longer_than_what_is_at_hand_is_refused(name):
    stage = make_stage(name)
    window = SCORERS[name].needs(stage).observation_window
    keys, values, context = make_layer()
    queries = context.statistics.observed_queries
    assert queries is not None
    short = LayerContext(1, 4, 0.3, PrefillStatistics(queries[:, :, : window - 1]))
    with pytest.raises(ConfigError, match=rf"options\.window: .* last {window} tokens, but {window - 1} are at hand"):
        SCORERS[name].score(keys, values, short, stage)
    with pytest.raises(ConfigError, match=rf"but {window - 1} are at hand"):
        SCORERS[name].score(keys[:, :, : window - 1], values[:, :, : window - 1], context, stage)


def test_more_observed_queries_than_asked_for_change_nothing():
    stage = make_stage("snapkv", options={"window": 7})
    few = SCORERS["snapkv"].score(*make_layer(StatisticsNeeded(observation_window=7)), stage)
    assert torch.equal(few, SCORERS["snapkv"].score(*make_layer(), stage))


def test_random_depends_on_seed_layer_and_head_alone():
    keys, values, context = make_layer()
    scorer, stage = SCORERS["random"], make_stage("random")
    scores = scorer.score(keys, values, context, stage)
    assert torch.equal(scores[0], scores[1])
    assert torch.equal(scores[:1, :2, :31], scorer.score(keys[:1, :2, :31], values, context, stage))
    assert torch.equal(scores, scorer.score(values, keys, context, stage))
    variants = [scores[0, 0], scores[0, 1]]
    variants.append(scorer.score(keys, values, LayerContext(2, 4, 0.3), stage)[0, 0])
    variants.append(scorer.score(keys, values, context, make_stage("random", options={"seed": 1}))[0, 0])
    assert len({tuple(row.tolist()) for row in variants}) == 4
    assert abs(float(scores[0].mean()) - 0.5) < 0.1


@pytest.mark.parametrize("name", SCORERS)
def test_generated_tokens_are_judged_by_what_the_scorer_reads(name):
    """By keys and values where a prompt is scored by nothing else, otherwise by the attention that they received."""
    scorer, stage = SCORERS[name], make_stage(name)
    keys, values, context = make_layer()
    bare = LayerContext(context.layer_index, context.layer_count, context.scaling)
    received = torch.rand(BATCH, HEADS, TOKENS)
    reads_statistics = scorer.needs(stage) != StatisticsNeeded()
    assert (scorer.watches(stage) != "nothing") == reads_statistics
    watched = received if reads_statistics else None

    def scores(keys, values, received):
        block = Block(keys, values, received, 16, number=3)
        found = scorer.score_block(block, bare, stage)
        assert found.shape == (BATCH, HEADS, 16)
        return found

    first = scores(keys, values, watched)
    by_content = not torch.equal(scores(-keys.flip(2), values.flip(2), watched), first)
    by_attention = reads_statistics and not torch.equal(scores(keys, values, received.flip(2)), first)
    assert (by_content, by_attention) == (name in {"keydiff", "knorm", "lagkv"}, reads_statistics)


@pytest.mark.parametrize("name", SCORERS)
def test_a_stage_and_its_scorer_name_each_other(name):
    assert isinstance(make_stage(name), SCORERS[name].stage)
    assert scorer_of(make_stage(name)) is SCORERS[name]
