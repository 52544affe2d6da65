"""``autokv hardware``: what this device is, and what is known of others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autokv.cli.tables import DeviceOption, JsonOption, print_facts, print_json, print_table

if TYPE_CHECKING:
    from autokv.hardware import HardwareProfile, Rate

app = typer.Typer(no_args_is_help=True)


@app.command()
def probe(
    device: DeviceOption = "auto",
    output: Annotated[Path | None, typer.Option(help="File for the profile, in JSON.")] = None,
    json_output: JsonOption = False,
) -> None:
    """Measure this machine, and keep its profile."""
    from autokv import hardware
    from autokv.errors import StorageError
    from autokv.files import write_atomic
    from autokv.hardware.finding import measured_file
    from autokv.models.placement import choose_device

    profile = hardware.probe(choose_device(device))
    text = _document(profile)
    if output is not None:
        write_atomic(output, text)
    try:
        kept = f"kept as {write_atomic(measured_file(profile), text)}"
    except StorageError as error:
        kept = f"not kept for `autokv hardware list`: {error}"
    if json_output:
        typer.echo(text, nl=False)
        return
    _show(profile)
    typer.echo(f"\n{kept}" if output is None else f"\nwritten to {output}; {kept}")


@app.command("list")
def list_hardware(json_output: JsonOption = False) -> None:
    """List the devices of the catalog and those that were measured here."""
    from autokv.hardware.catalog import sheets
    from autokv.hardware.finding import measured_profiles

    known = {**measured_profiles(), **{name: sheet.profile() for name, sheet in sheets().items()}}
    if json_output:
        print_json([{"id": name, **profile.to_dict()} for name, profile in known.items()])
        return
    rows = [
        [
            name,
            profile.name,
            f"{profile.memory_bytes / (1 << 30):.0f}",
            f"{profile.copy_gb_per_s.median:,.0f}",
            f"{profile.bfloat16_gflops.median / 1e3:,.4g}",
            profile.source,
        ]
        for name, profile in known.items()
    ]
    header = ("id", "device", "GiB", "GB/s", "bf16 TFLOP/s", "source")
    print_table(header, rows, shrink="device", empty="no device is known")


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="Id or name from `autokv hardware list`, a profile file, or here.")],
    json_output: JsonOption = False,
) -> None:
    """Show a device of the catalog, of a profile file, or this machine."""
    from autokv import hardware

    profile = hardware.find(name)
    if json_output:
        typer.echo(_document(profile), nl=False)
        return
    _show(profile)


def _document(profile: HardwareProfile) -> str:
    import json

    return json.dumps(profile.to_dict(), indent=2, allow_nan=False) + "\n"


def _show(profile: HardwareProfile) -> None:
    print_facts(dict(_facts(profile)))


def _facts(profile: HardwareProfile) -> Iterator[tuple[str, str | None]]:
    yield "device", f"{profile.name} ({profile.kind}, {profile.cores} {_cores(profile)})"
    yield "memory", f"{profile.memory_bytes / (1 << 30):,.1f} GiB"
    yield "memory bandwidth", _rate(profile.copy_gb_per_s, "GB/s")
    for label, rate, unit in (
        ("float32", profile.float32_gflops, "GFLOP/s"),
        ("bfloat16", profile.bfloat16_gflops, "GFLOP/s"),
        ("float16", profile.float16_gflops, "GFLOP/s"),
        ("fp8", profile.float8_gflops, "GFLOP/s"),
        ("int8", profile.int8_gops, "GOP/s"),
        ("host to device", profile.link_gb_per_s, "GB/s"),
        ("one launch", profile.launch_us, "µs"),
    ):
        yield label, _rate(rate, unit)
    yield "capabilities", ", ".join(profile.capabilities)
    if profile.source == "measured":
        yield "measured with", f"PyTorch {profile.torch_version}, {profile.threads} threads"
    else:
        yield "source", f"data sheet (peaks): {profile.reference}"
    yield "fingerprint", profile.fingerprint


def _cores(profile: HardwareProfile) -> str:
    return {"cpu": "cores", "cuda": "multiprocessors", "rocm": "compute units"}[profile.kind]


def _rate(rate: Rate | None, unit: str) -> str | None:
    if rate is None:
        return None
    spread = f" (± {rate.spread:,.3g} over {rate.n} runs)" if rate.n else ""
    return f"{rate.median:,.4g} {unit}{spread}" if rate.median < 1e4 else f"{rate.median:,.0f} {unit}{spread}"
