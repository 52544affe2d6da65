"""``autokv kernels``: which are active here; precompile them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autokv.cli.tables import DeviceOption, JsonOption, print_json, print_table

if TYPE_CHECKING:
    import torch
    from rich.console import Console

    from autokv.evaluation.kernel_shapes import AttentionShape
    from autokv.kernels import Backend

app = typer.Typer(no_args_is_help=True)


@app.command("list")
def list_kernels(device: DeviceOption = "auto", json_output: JsonOption = False) -> None:
    """List the kernels, and which of them a device uses."""
    from autokv.models.placement import choose_device

    place = choose_device(device)
    document = _document(place)
    if json_output:
        print_json(document)
        return
    from autokv.cli.console import output

    here = f"on {place}"
    print_table(("kernels", here), list(document["kernels"].items()), shrink=here, empty="")
    screen = output()
    screen.print(f"\n{place} uses {document['used']}: {document['reason']}", markup=False)
    screen.print(f"kept in {document['folder']}", markup=False, soft_wrap=True)
    if place.type == "cuda":
        screen.print(f"{document['launches']} launches measured on {document['device']}", markup=False)


@app.command("warm-up")
def warm_up(
    model: Annotated[
        str | None, typer.Option(help="Model to tune for; default: the shapes of `autokv bench kernels`.")
    ] = None,
    device: DeviceOption = "auto",
) -> None:
    """Precompile the kernels that a device uses.

    On a GPU, it also measures the best launch settings. Without a warm-up, default settings are used.
    """
    from autokv import settings
    from autokv.cli.console import output
    from autokv.kernels import backend
    from autokv.models.placement import choose_device

    shapes = None if model is None else _shapes_of(model)
    place = choose_device(device)
    kernels = backend(place, settings.current().kernels)
    screen = output()
    if kernels.name == "cpu":
        _compile(screen)
    elif kernels.name == "triton":
        _tune(screen, kernels, place, shapes)
    else:
        screen.print(f"the kernels {kernels.name!r} have nothing to compile", markup=False)


@app.command()
def build() -> None:
    """Compile the C kernels into the installation.

    Machines without a C compiler can then use this installation, such as a container made from it.
    """
    from autokv.cli.console import output
    from autokv.errors import RequestError
    from autokv.kernels.native import compiler

    try:
        made = compiler.build_ahead(compiler.BUILT_AHEAD, compiler.find())
    except compiler.CompilerError as error:
        raise RequestError(str(error), field="kernels", remedy="install a C compiler, or set CC") from None
    for path in made:
        output().print(f"built {path}", markup=False, soft_wrap=True)
    if not made:
        output().print("nothing to build: processors of this kind need a compiler where they run", markup=False)


def _document(place: torch.device) -> dict[str, Any]:
    from autokv import settings
    from autokv.files import cache_folder
    from autokv.kernels.autotune import device_name, stored_launches
    from autokv.kernels.backend import backend, default_backend

    forced = settings.current().kernels
    used, reason = (forced, "AUTOKV_KERNELS says so") if forced else default_backend(place)
    backend(place, used)
    return {
        "device": device_name(place) if place.type == "cuda" else "cpu",
        "used": used,
        "reason": reason,
        "kernels": _kernels(place),
        "folder": str(cache_folder("kernels")),
        "launches": stored_launches(device_name(place)),
    }


def _kernels(place: torch.device) -> dict[str, str]:
    """A line on each backend."""
    from autokv.kernels.autotune import triton_version
    from autokv.kernels.native import compiler
    from autokv.kernels.triton_backend import interpreted, obstacle

    problem = obstacle(place)
    triton = problem[0] if problem else f"Triton {triton_version()}{', interpreted: slow' if interpreted() else ''}"
    try:
        native = f"C, by {compiler.find().version}"
    except compiler.CompilerError as error:
        ahead = compiler.built_ahead(compiler.BUILT_AHEAD)
        native = f"C, built with the installation: {ahead.name}" if ahead else f"PyTorch; no C compiler found: {error}"
    return {
        "triton": triton,
        "cpu": native if place.type == "cpu" else f"PyTorch, as C does not run on {place.type}",
        "torch": "PyTorch",
        "reference": "float64 reference, to compare with",
    }


def _compile(screen: Console) -> None:
    from autokv.kernels.native import library

    start = time.perf_counter()
    found = library()
    seconds = time.perf_counter() - start
    if found.reason is not None:
        screen.print(f"PyTorch computes attention, more slowly than C: {found.reason}", markup=False, soft_wrap=True)
        return
    where = f"kept as {found.path}" if found.path else "not kept: the cache folder cannot be used"
    screen.print(f"ready in {seconds:.1f} s, by {found.compiler}; {where}", markup=False, soft_wrap=True)


def _tune(screen: Console, kernels: Backend, place: torch.device, shapes: Mapping[str, AttentionShape] | None) -> None:
    from autokv.evaluation import warm_up
    from autokv.evaluation.kernel_shapes import SHAPES
    from autokv.kernels.autotune import device_name, launches_file

    total = 0
    for point in warm_up.warm_up(kernels, place, shapes or SHAPES):
        total += point.launches
        screen.print(
            f"{point.shape}, batch {point.batch}, context {point.context:,}: "
            f"{point.launches} launches in {point.seconds:.1f} s",
            markup=False,
        )
    screen.print(f"{total} launches kept in {launches_file(device_name(place))}", markup=False, soft_wrap=True)


def _shapes_of(model: str) -> dict[str, AttentionShape]:
    from autokv import models
    from autokv.evaluation.kernel_shapes import AttentionShape

    facts = models.inspect(model)
    return {facts.name: AttentionShape(facts.kv_heads, facts.query_heads // facts.kv_heads, facts.head_dim)}
