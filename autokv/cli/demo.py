"""``autokv demo``: a first real answer for a real language model, with nothing to prepare."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from autokv import settings
from autokv.cli.tune import RESULTS, run_and_show

REQUESTS_PER_S = 0.2
"""Of the example trace: what two CPU cores keep up with."""


def demo(
    trials: Annotated[int, typer.Option(min=1, help="Candidates to run.")] = 60,
    output: Annotated[Path, typer.Option(help="Folder for the results.")] = RESULTS,
    database: Annotated[str | None, typer.Option(help="SQLAlchemy URL of the database.")] = None,
) -> None:
    """Tune SmolLM2-135M-Instruct on the text and the example trace that ship with AutoKV."""
    from autokv.data import example_trace
    from autokv.models.demo import demo_gguf_path, demo_model_path
    from autokv.models.gguf import converted
    from autokv.tuning.request import TuningRequest

    typer.echo("SmolLM2-135M-Instruct on an excerpt of Persuasion, contexts and traffic as in a synthesized chat trace")
    if converted(demo_gguf_path(), settings.current().cache_dir) is None:
        typer.echo("converting the model from GGUF, once: about 20 s")
    request = TuningRequest(
        model=str(demo_model_path()),
        workload=str(example_trace()),
        rate=REQUESTS_PER_S,
        maximums={"kl_divergence": 0.05},
        trials=trials,
        max_context_tokens=2048,
    )
    run_and_show(request, database or settings.current().database_url, output)
