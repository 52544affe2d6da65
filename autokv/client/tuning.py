"""What ``tune`` uploads before it submits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from autokv.client import resources
from autokv.client.configurations import Format
from autokv.client.operation import Operation
from autokv.documents import read_document
from autokv.errors import NotFoundError, RequestError
from autokv.wire import HardwareProfileView, JobView, UploadView

Upload = Operation[UploadView | HardwareProfileView]


def uploads(fields: Mapping[str, Any]) -> Iterator[tuple[str, Upload]]:
    """The fields that name files, and how each file is uploaded; its id then takes the file's place.

    Raises:
        RequestError: a path leads to no file.
    """
    if file := _file("workload", fields.get("workload")):
        columns = fields.get("columns", {})
        if not isinstance(columns, Mapping):
            raise RequestError("is no mapping", field="columns", remedy="such as {'input_tokens': 'prompt_tokens'}")
        reading = {name: fields.get(name) for name in ("time_unit", "max_bad_rows")}
        # A job takes the field by its earlier name too.
        reading["hash_block_size"] = fields.get("hash_block_size", fields.get("block_size"))
        yield "workload", resources.traces.upload(file, columns=columns, **reading)
    if file := _file("prompts", fields.get("prompts")):
        yield "prompts", resources.prompts.upload(file)
    for name in ("hardware", "run_on"):
        if file := _file(name, fields.get(name)):
            yield name, resources.add_profile(file)


def space_of(value: Any) -> Any:  # noqa: ANN401 - a name, or a search space spelled out
    """A search space: a YAML file is read, anything else is left as it is.

    Raises:
        RequestError: the file cannot be read.
    """
    file = _file("space", value)
    if file is None:
        return value
    document = read_document(file, error=RequestError, remedy="see docs/configuration.md")
    if not isinstance(document, dict):
        raise RequestError("holds no search space", field=str(file), remedy="see docs/configuration.md")
    return document


def _file(name: str, value: object) -> Path | None:
    """The file that a field names; ids and names have neither slashes nor a suffix."""
    if isinstance(value, Path):
        file = value.expanduser()
    elif isinstance(value, str) and (Path(value).is_file() or "/" in value):
        file = Path(value).expanduser()
    else:
        return None
    if not file.is_file():
        raise RequestError(f"{value} is not a file", field=name, remedy="check the path, or name an id")
    return file


def format_of(file: str | Path) -> Format:
    """The format that a file's suffix names."""
    return "yaml" if Path(file).suffix in {".yaml", ".yml"} else "json"


def recommended_of(job: JobView) -> str:
    """The id of the configuration that a job recommends.

    Raises:
        NotFoundError: it recommends none.
    """
    if job.recommended is None:
        reason = job.reason or f"it is {job.state}"
        raise NotFoundError(
            f"recommends no configuration ({reason})", field=f"job {job.id}", remedy="look at its report"
        )
    return job.recommended
