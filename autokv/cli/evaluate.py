"""``autokv evaluate``: judge configurations against the full cache."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from autokv.cli.tables import print_json
from autokv.config import CompressionConfig, ConfigurationDocument
from autokv.errors import InputError, RequestError
from autokv.files import check_file, write_atomic

SUFFIXES = (".svg", ".html")
Dtype = Literal["auto", "float32", "bfloat16", "float16"]


def evaluate(
    model: Annotated[str, typer.Option(help="Hugging Face id, local folder or GGUF file.")],
    config: Annotated[list[Path], typer.Option(help="Configuration file, JSON or YAML; repeat for more.")],
    text: Annotated[Path | None, typer.Option(help="Text file, cut into samples.")] = None,
    prompts: Annotated[Path | None, typer.Option(help="JSONL file: prompt, optional completion.")] = None,
    tasks: Annotated[bool, typer.Option("--tasks", help="Five kinds of generated tasks, in turn.")] = False,
    context_tokens: Annotated[
        int, typer.Option(min=16, help="Context length in tokens; prompts of a file keep their own.")
    ] = 1024,
    continuation_tokens: Annotated[int, typer.Option(min=2, help="Continuation length in tokens.")] = 64,
    batch: Annotated[int, typer.Option(min=1, help="Sequences that decode attention is timed over.")] = 1,
    samples: Annotated[int, typer.Option(min=1, help="Prompts to judge on.")] = 4,
    dtype: Annotated[Dtype, typer.Option(help="Dtype of the model.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    plot: Annotated[
        Path | None, typer.Option(help="File for a picture of quality against bytes, .svg or .html.")
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print one JSON array.")] = False,
) -> None:
    """Judge configurations against the full cache on fixed prompts."""
    if sum((text is not None, prompts is not None, tasks)) != 1:
        raise RequestError("exactly one source of prompts is needed", remedy="give --text, --prompts or --tasks")
    configs = [_config(path) for path in config]
    if plot is not None:
        if plot.suffix.lower() not in SUFFIXES:
            raise RequestError(f"cannot write {plot}", field="--plot", remedy=f"name a file {' or '.join(SUFFIXES)}")
        check_file(plot)

    from autokv.cli.console import measurement_table, output, print_table
    from autokv.errors import AutoKVError
    from autokv.evaluation.evaluator import Evaluator, needs_of
    from autokv.evaluation.prompts import load_prompts
    from autokv.models import load

    loaded = load(model, dtype=dtype, device=device)
    sets = load_prompts(
        loaded.tokenizer,
        text=text,
        prompts=prompts,
        tasks=tasks,
        calibration=[context_tokens] * samples,
        validation=[],
        continuation_tokens=continuation_tokens,
        context_limit=loaded.facts.context_tokens,
    )
    evaluator = Evaluator(
        loaded, sets.calibration, continuation_tokens, needs_of(configs), batch=batch, generate=text is None
    )
    results = evaluator.evaluate(configs)
    for path, result in zip(config, results, strict=True):
        if isinstance(result, AutoKVError):
            raise InputError(result.message, field=f"{path}: {result.field or 'pipeline'}", remedy=result.remedy)
    measurements = [result for result in results if not isinstance(result, AutoKVError)]
    if plot is not None:
        from autokv.report.evaluated import picture

        judged = list(zip(_names(config), measurements, strict=True))
        write_atomic(plot, picture(judged, plot.suffix.lower()))
    if json_output:
        print_json([measurement.to_dict() for measurement in measurements])
    else:
        screen = output()
        print_table(screen, measurement_table(measurements))
        if plot is not None:
            screen.print(f"written to {plot}", markup=False, soft_wrap=True)


def _names(files: list[Path]) -> list[str]:
    """What the files are called in the picture: without folder and suffix where that tells them apart."""
    stems = [file.stem for file in files]
    return stems if len(set(stems)) == len(set(files)) else [str(file) for file in files]


def _config(path: Path) -> CompressionConfig:
    return ConfigurationDocument.load(path).config()
