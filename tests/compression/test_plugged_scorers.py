"""A scorer of another distribution, installed as pip leaves it behind: one file, and nothing of AutoKV is changed."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
from transformers import AutoModelForCausalLM

from autokv import CompressedCache, CompressionConfig, ConfigurationDocument
from autokv.cli.main import main
from autokv.compression.eviction import scorer_of
from autokv.config import EVICTIONS, json_schema
from autokv.errors import ConfigError, PluginError
from autokv.evaluation import Prompt
from autokv.evaluation.evaluator import Evaluator, needs_of
from autokv.evaluation.measurement import Measurement
from autokv.models import load
from autokv.report import describe
from autokv.search_spaces import build_space

SOURCE = '''
import torch
from typing import Literal
from autokv.compression.eviction import Scorer
from autokv.config import EvictionStage, Strict

class Options(Strict):
    sign: Literal[1, -1] = -1

class Oldest(EvictionStage):
    title = "Oldest first"
    method: Literal["oldest"]
    options: Options = Options()

class OldestScorer(Scorer[Oldest]):
    """The first tokens of every block stay, or the last."""

    stage = Oldest

    def score(self, keys, values, context, stage):
        order = torch.arange(keys.shape[2], dtype=torch.float32, device=keys.device)
        return (stage.options.sign * order).expand(keys.shape[:3])
'''
STAGE = {"method": "oldest", "keep_ratio": 0.5, "sink_tokens": 0, "recent_tokens": 8}


def install(folder: Path, source: str = SOURCE, points: str = "oldest = oldest_plugin:OldestScorer") -> None:
    (folder / "oldest_plugin.py").write_text(source)
    info = folder / "oldest_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: oldest-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[autokv.scorers]\n{points}\n")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    yield folder
    sys.modules.pop("oldest_plugin", None)


@pytest.fixture
def installed(site: Path) -> Path:
    install(site)
    return site


def config(**fields: object) -> CompressionConfig:
    return CompressionConfig.parse({"pipeline": {"eviction": {**STAGE, **fields}}})


def plugged(one: CompressionConfig) -> Any:  # noqa: ANN401 - the class is in SOURCE
    """The stage, which must be the plug-in's."""
    assert type(one.pipeline.eviction).__name__ == "Oldest"
    return one.pipeline.eviction


@pytest.mark.usefixtures("installed")
def test_its_stage_is_a_stage_like_any_other() -> None:
    one = config()
    assert plugged(one).options.sign == -1
    assert CompressionConfig.parse(json.loads(one.model_dump_json())) == one
    assert json.loads(one.canonical_json)["eviction"]["options"] == {"sign": -1}
    assert len({one.digest, config(options={"sign": 1}).digest, config(keep_ratio=0.4).digest}) == 3
    assert config(options={"sign": -1}).digest == one.digest
    assert describe(one) == "Oldest first 50%"
    assert Measurement.from_dict(Measurement(one, {}, []).to_dict()).config == one


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"options": {"sign": 2}}, "pipeline.eviction.options.sign"),
        ({"keep_ratio": 2}, "pipeline.eviction.keep_ratio"),
        ({"surprise": 1}, "pipeline.eviction.surprise"),
    ],
)
def test_its_mistakes_are_named(fields: dict[str, object], field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config(**fields)
    assert caught.value.field == field
    assert not jsonschema.Draft202012Validator(json_schema()).is_valid({"pipeline": {"eviction": {**STAGE, **fields}}})


@pytest.mark.usefixtures("installed")
def test_the_schema_has_it_beside_autokvs_own() -> None:
    schema = jsonschema.Draft202012Validator(json_schema())
    schema.check_schema(json_schema())
    assert schema.is_valid({"pipeline": {"eviction": STAGE}})
    assert schema.is_valid({"pipeline": {"eviction": {"method": "snapkv", "keep_ratio": 0.5}}})


def test_one_that_is_not_installed_is_named_with_where_it_comes_from(site: Path, tmp_path: Path) -> None:
    path = tmp_path / "oldest.json"
    path.write_text(json.dumps({"pipeline": {"eviction": STAGE}}))
    with pytest.raises(ConfigError) as caught:
        ConfigurationDocument.load(path)
    line = str(caught.value)
    assert line.startswith(f"{path}: pipeline.eviction")
    assert "'oldest'" in line
    assert "a package to be installed (autokv.scorers)" in line
    assert not jsonschema.Draft202012Validator(json_schema()).is_valid({"pipeline": {"eviction": STAGE}})


@pytest.mark.parametrize(
    ("source", "points", "says"),
    [
        (SOURCE, "oldest = oldest_plugin:Oldest", "is not a class whose `stage`"),
        (SOURCE, "other = oldest_plugin:OldestScorer", "registers the method 'oldest'"),
        (
            SOURCE.replace('"oldest"', '"snapkv"'),
            "snapkv = oldest_plugin:OldestScorer",
            "neither as a method",
        ),
        ("import nothing_of_this_name", "oldest = oldest_plugin:OldestScorer", "cannot be loaded"),
    ],
)
def test_one_that_is_broken_is_named(source: str, points: str, says: str, site: Path) -> None:
    install(site, source, points)
    with pytest.raises(PluginError, match=says):
        EVICTIONS.registered()
    # Whoever does not ask for it does not notice.
    assert CompressionConfig.parse({"pipeline": {"eviction": {"method": "snapkv", "keep_ratio": 0.5}}}).digest


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("sign", [1, -1])
def test_it_is_used_while_generating(sign: int, tiny_model_folder: Callable[..., Path]) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model_folder("llama")).eval()
    cache = CompressedCache.from_config(model, config(options={"sign": sign}))
    ids = torch.randint(0, 256, (1, 140), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        model(ids[:, :40], past_key_values=cache)
        for token in ids[:, 40:].unbind(1):
            model(token[:, None], past_key_values=cache)
    kept = cache.kept_positions(1, 0, 0).tolist()
    # Recent tokens of the prompt are judged with nothing else; then every block of 16 keeps its first 8, or its last.
    for block in range(40, 40 + 4 * 16, 16):
        stays = range(block, block + 8) if sign == -1 else range(block + 8, block + 16)
        assert [token for token in kept if block <= token < block + 16] == list(stays)


@pytest.mark.usefixtures("installed")
def test_it_is_judged_and_searched(tiny_model_folder: Callable[..., Path]) -> None:
    stages = {"eviction": [{"method": ["oldest", "knorm"], "keep_ratio": [0.5, 0.75]}, {"method": "none"}]}
    space = build_space({"name": "mine", "stages": stages}, "mine.yaml")
    assert set(space.stages["eviction"].methods) - {"none"} == {"oldest", "knorm"}
    configs = [space.to_config(point) for point in space.grid()]
    assert len({one.digest for one in configs}) == 5
    prompt = Prompt("p", "text", tuple(range(20, 220)), tuple(range(20, 30)))
    model = load(str(tiny_model_folder("llama")), dtype="float32", device="cpu")
    results = Evaluator(model, [prompt], 10, needs_of(configs), timed=False).evaluate(configs)
    measured = [result for result in results if isinstance(result, Measurement)]
    assert len(measured) == len(configs)
    half = next(one for one in measured if one.config.pipeline.eviction == scorer_stage(configs, 0.5))
    assert half.value("compression_ratio") == pytest.approx(2, rel=0.05)
    assert half.value("kl_divergence") > 1e-4


def scorer_stage(configs: list[CompressionConfig], ratio: float) -> object:
    stages = [plugged(one) for one in configs if str(one.pipeline.eviction.method) == "oldest"]
    (stage,) = (one for one in stages if one.keep_ratio == ratio)
    assert type(scorer_of(stage)).__name__ == "OldestScorer"
    return stage


@pytest.mark.usefixtures("installed")
def test_the_command_line_takes_it(
    tmp_path: Path,
    tiny_model_folder: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    path, prompts = tmp_path / "oldest.json", tmp_path / "prompts.jsonl"
    path.write_text(json.dumps({"pipeline": {"eviction": STAGE}}))
    prompts.write_text(json.dumps({"prompt": "A long story. " * 20}) + "\n")
    model = str(tiny_model_folder("llama"))

    def run(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["autokv", *arguments])
        with pytest.raises(SystemExit) as caught:
            main()
        output = capfd.readouterr()
        assert not caught.value.code, output.err
        return output.out

    assert config().digest in run("config", "validate", str(path))
    judged = run(
        "evaluate", "--model", model, "--config", str(path), "--prompts", str(prompts), "--samples", "1",
        "--continuation-tokens", "4", "--device", "cpu", "--dtype", "float32", "--json",
    )  # fmt: skip
    assert json.loads(judged)[0]["config"]["pipeline"]["eviction"]["method"] == "oldest"
    assert run("generate", "--model", model, "--config", str(path), "--prompt", "Once", "--max-new-tokens", "4")
