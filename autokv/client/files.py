"""The files of a job that is done."""

from __future__ import annotations

from pathlib import Path

from autokv.client.client import Client
from autokv.errors import StorageError
from autokv.files import write_atomic

RECOMMENDED = "recommended.json"


def download_results(client: Client, job: str, directory: str | Path) -> list[Path]:
    """Write ``report.html``, ``front.json`` and, if one is recommended, ``recommended.json``.

    A recommended configuration of an earlier job goes first, so that the file is there only if this one recommends it.

    Raises:
        NotFoundError: the server has no such job, or it has no result yet.
        StorageError: a file cannot be written.
    """
    folder = Path(directory)
    found = client.jobs.get(job)
    contents = {"report.html": client.jobs.report(job), "front.json": client.jobs.front(job).model_dump_json(indent=2)}
    if found.recommended is not None:
        contents[RECOMMENDED] = client.configurations.text(found.recommended)
    try:
        (folder / RECOMMENDED).unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(
            f"cannot be written to ({error.strerror})", field=str(directory), remedy="choose another folder"
        ) from None
    return [write_atomic(folder / name, text) for name, text in contents.items()]
