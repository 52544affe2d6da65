"""``autokv evaluate``: judge configurations against the full cache."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autokv.cli.tables import DeviceOption, DtypeOption, print_json
from autokv.config import CompressionConfig, ConfigurationDocument
from autokv.errors import AutoKVError, InputError, RequestError
from autokv.export import TARGETS, target_named
from autokv.files import check_file, write_atomic

if TYPE_CHECKING:
    from autokv.evaluation.measurement import Measurement
    from autokv.models import ModelFacts

SUFFIXES = (".svg", ".html")


def evaluate(
    model: Annotated[str, typer.Option(help="Hugging Face id, local folder or GGUF file.")],
    config: Annotated[
        list[Path] | None, typer.Option(help="Configuration file, JSON or YAML; repeat for more.")
    ] = None,
    target: Annotated[str | None, typer.Option(help=f"Judge what this engine would run: {', '.join(TARGETS)}.")] = None,
    engine_args: Annotated[
        list[str] | None, typer.Option(help="The engine's own options, in place of --config; repeat for more.")
    ] = None,
    text: Annotated[Path | None, typer.Option(help="Text file to cut prompts from.")] = None,
    prompts: Annotated[Path | None, typer.Option(help="JSONL file: prompt, optional completion or answers.")] = None,
    tasks: Annotated[bool, typer.Option("--tasks", help="Use generated tasks of five kinds as prompts.")] = False,
    context_tokens: Annotated[
        int, typer.Option(min=16, help="Context length in tokens; prompts of --prompts keep theirs.")
    ] = 1024,
    continuation_tokens: Annotated[int, typer.Option(min=2, help="Continuation length in tokens.")] = 64,
    batch: Annotated[int, typer.Option(min=1, help="Sequences at once when attention is timed.")] = 1,
    samples: Annotated[int, typer.Option(min=1, help="Number of prompts.")] = 4,
    dtype: DtypeOption = "auto",
    device: DeviceOption = "auto",
    plot: Annotated[Path | None, typer.Option(help="File for a plot of quality over bytes, .svg or .html.")] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print one JSON array.")] = False,
) -> None:
    """Judge configurations against the 16-bit cache on fixed prompts.

    Without --text, --prompts or --tasks, they are cut from a novel that ships with AutoKV. With --target, what that
    engine would run is judged: its --engine-args, or what it makes of each --config.
    """
    if sum((text is not None, prompts is not None, tasks)) > 1:
        raise RequestError("prompts have more than one source", remedy="give one of --text, --prompts and --tasks")
    names, configs = _asked(config or [], target, engine_args or [])
    if plot is not None:
        if plot.suffix.lower() not in SUFFIXES:
            raise RequestError(f"cannot write {plot}", field="--plot", remedy=f"name a file {' or '.join(SUFFIXES)}")
        check_file(plot)

    from autokv.evaluation.prompts.records import prompt_file_facts
    from autokv.evaluation.prompts.text import read_text

    # A mistake is told before the model is loaded.
    if prompts is not None:
        prompt_file_facts(prompts)
    if text is not None:
        read_text(text)

    from autokv.cli.console import measurement_table, output, print_table
    from autokv.evaluation.evaluator import Evaluator, needs_of
    from autokv.evaluation.prompts import load_prompts
    from autokv.models import load
    from autokv.report.view import FULL

    if text is None and prompts is None and not tasks:
        typer.echo("no prompts are given: judged on the text that ships with AutoKV", err=True)
    # The reference has a row of its own; JSON holds what was asked for.
    known = any(one.pipeline.is_identity for one in configs) or (json_output and plot is None)
    reference = [] if known else [CompressionConfig()]
    loaded = load(model, dtype=dtype, device=device)
    if target is not None and not engine_args:
        configs = _held(target, names, configs, loaded.facts)
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
        loaded,
        sets.calibration,
        continuation_tokens,
        needs_of(configs),
        batch=batch,
        generate=tasks or prompts is not None,
    )
    measurements: list[Measurement] = []
    for source, result in zip(
        [*(FULL for _ in reference), *names], evaluator.evaluate([*reference, *configs]), strict=True
    ):
        if isinstance(result, AutoKVError):
            raise InputError(result.message, field=f"{source}: {result.field or 'pipeline'}", remedy=result.remedy)
        measurements.append(result)
    if plot is not None:
        from autokv.report.front_chart import picture

        judged = zip([*(FULL for _ in reference), *_short(names)], measurements, strict=True)
        write_atomic(plot, picture(list(judged), plot.suffix.lower()))
    if json_output:
        print_json([measurement.to_dict() for measurement in measurements[len(reference) :]])
    else:
        screen = output()
        print_table(screen, measurement_table(measurements))
        if plot is not None:
            screen.print(f"written to {plot}", markup=False, soft_wrap=True)


def _asked(files: list[Path], target: str | None, engine_args: list[str]) -> tuple[list[str], list[CompressionConfig]]:
    """What is to be judged, and what each is called."""
    if bool(files) == bool(engine_args):
        both = "both given" if files else "both missing"
        raise RequestError(f"--config and --engine-args are {both}", remedy="give one of them")
    engine = None if target is None else target_named(target)
    if not engine_args:
        return list(map(str, files)), [ConfigurationDocument.load(file).config() for file in files]
    if engine is None:
        raise RequestError("--engine-args needs an engine", remedy=f"give --target, one of {', '.join(TARGETS)}")
    return engine_args, [engine.parse(_words(each)) for each in engine_args]


def _words(options: str) -> list[str]:
    """Options as a shell takes them apart; a JSON object is one word."""
    if options.lstrip().startswith("{"):
        return [options]
    try:
        return shlex.split(options)
    except ValueError as error:
        raise RequestError(f"{options[:80]!r}: {error}", field="--engine-args", remedy="close the quotes") from None


def _held(
    target: str, names: list[str], configs: list[CompressionConfig], facts: ModelFacts
) -> list[CompressionConfig]:
    """What the engine makes of each configuration; how it changes is told on standard error."""
    engine, held = target_named(target), []
    for name, config in zip(names, configs, strict=True):
        fidelity = engine.hold(config, facts)
        typer.echo(f"{name}: {fidelity.level.replace('_', ' ')} for {engine.title}", err=True)
        for change in fidelity.changes:
            typer.echo(f"  {change.stage}: {change.asked} -> {change.held} ({change.why})", err=True)
        held.append(fidelity.held)
    return held


def _short(names: list[str]) -> list[str]:
    """What they are called in the picture: files without folder and suffix where that tells them apart."""
    stems = [name if name.startswith(("-", "{")) or "=" in name else Path(name).stem for name in names]
    return stems if len(set(stems)) == len(set(names)) else names
