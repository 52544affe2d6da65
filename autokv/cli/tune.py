"""``autokv tune``: search, confirm, recommend; and go on where a run was stopped.

What happens meanwhile is said on standard error, the result on standard output.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from autokv import settings
from autokv.cli import complete
from autokv.cli import options as asked
from autokv.cli.tables import DatabaseOption, JsonOption, print_json
from autokv.errors import RequestError
from autokv.runs.commands import RESULTS, generate_command
from autokv.tuning.request import TuningRequest, read_request_file

if TYPE_CHECKING:
    from autokv.jobs.local_job import Finished

EXIT_NOTHING = 3
"""Of a search that ended well and recommends nothing."""


@asked.takes(TuningRequest)
def tune(
    *,
    request_file: Annotated[
        Path | None, typer.Argument(help="YAML file with these options as fields.", metavar="[FILE]")
    ] = None,
    given: asked.Given,
    output: Annotated[Path, typer.Option(help="Folder for the results.")] = RESULTS,
    database: DatabaseOption = None,
    resume: Annotated[
        str | None, typer.Option(help="Resume this job.", metavar="JOB", autocompletion=complete.job)
    ] = None,
    json_output: JsonOption = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print no progress.")] = False,
) -> None:
    """Find the best KV-cache compression for a model and its traffic.

    The best ones are confirmed on other prompts. The exit code is 3 if none can be recommended.
    """
    url = database or settings.current().database_url
    request: TuningRequest | None = None
    if resume is None:
        fields = read_request_file(request_file) if request_file else {}
        request = TuningRequest.parse({**fields, **given}, where=str(request_file or ""))
    elif given or request_file:
        names = [asked.option_of(name, TuningRequest.model_fields[name]) for name in given]
        field = names[0] if names else str(request_file)
        raise RequestError("a resumed job keeps its options", field=field, remedy="leave it out with --resume")
    finished = _run(request, url, output, resume=resume or "", quiet=quiet)
    if json_output:
        print_json(finished.to_dict())
    else:
        _show(finished, url)
    if finished.result.recommended is None:
        raise typer.Exit(EXIT_NOTHING)


def _run(request: TuningRequest | None, url: str, output: Path, *, resume: str, quiet: bool) -> Finished:
    """Run or resume a job with live progress."""
    from autokv.cli.console import output as console
    from autokv.cli.progress import TuningProgress
    from autokv.files import check_folder
    from autokv.jobs.local_job import resume as resume_job
    from autokv.jobs.local_job import start

    check_folder(output)
    screen = console(stderr=True)
    screen.quiet = quiet
    with stop_on_interrupt() as stop, TuningProgress(screen, request.trials if request else 0) as progress:
        if request is None:
            return resume_job(resume, url, output, progress, stop)
        return start(request, url, output, progress, stop)


def _show(finished: Finished, url: str) -> None:
    """The front, what is recommended and why, and where the files are."""
    from autokv.cli.console import answer, front_table, output, print_table

    screen = output()
    print_table(screen, front_table(finished.result))
    screen.print("\n".join([*answer(finished.result), finished.result.reason]), markup=False, soft_wrap=True)
    for name, path in finished.files.items():
        screen.print(f"  {name:17} {path}", markup=False, soft_wrap=True)
    screen.print(f"  {'database':17} {url} (job {finished.job_id})", markup=False, soft_wrap=True)
    if finished.result.recommended is not None:
        next_one = generate_command(finished.files["recommended.json"])
        screen.print(f"`{next_one}` runs the model with it", markup=False, soft_wrap=True)


@contextmanager
def stop_on_interrupt() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C (or SIGTERM) sets; a second one interrupts at once."""
    stop = threading.Event()

    def ask(number: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        typer.echo("stopping after the prompt that is being judged; again to stop at once", err=True)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
