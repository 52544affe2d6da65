"""Where a model lies: a hub id, a local folder or a GGUF file, told apart and confined to the allowed roots.

A name that a server offers is taken too, so that what a job's documents say of their model can be used where it ran.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)
from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

from autokv.errors import ModelError
from autokv.models.offered import is_hub_id, offered
from autokv.models.quiet import reading
from autokv.settings import Settings

MAX_NAME_CHARACTERS = 4096
_TEXT_FILES = ("*.json", "*.jinja", "*.txt", "tokenizer.model")
_IGNORED = ("*/*", "consolidated*")
_GGUF_MAGIC = b"GGUF"


@dataclass(frozen=True)
class Source:
    """A model that was found. ``path`` is a folder, or a file if ``kind`` is ``gguf``."""

    name: str
    kind: Literal["hub", "folder", "gguf"]
    path: Path


def locate(model: str, settings: Settings, *, weights: bool) -> Source:
    """Find ``model``; a hub id is downloaded, with its weights only if ``weights``.

    Raises:
        ModelError: nothing is there, it lies outside the allowed roots, or it is neither a folder nor a GGUF file.
    """
    if not model.strip() or len(model) > MAX_NAME_CHARACTERS or "\0" in model:
        raise ModelError(
            f"not a model name of 1 to {MAX_NAME_CHARACTERS} characters",
            field="model",
            remedy="give a Hugging Face id, a local folder or a GGUF file",
        )
    with reading(model, "the path"):
        found = _local(model, settings)
    return found or Source(model, "hub", _download(model, settings, weights=weights))


def _local(model: str, settings: Settings) -> Source | None:
    """The folder or file of that path or offered name, or ``None`` if there is none and the name may be a hub id."""
    path = Path(model).expanduser()
    if not path.exists():
        named = next((one for one in offered(settings) if one.name == model and one.source != "hub"), None)
        if named is not None:
            path = Path(named.loads)
        elif is_hub_id(model) and path.suffix.lower() != ".gguf":
            return None
    resolved = path.resolve()
    _confine(model, resolved, settings)
    if resolved.is_dir():
        return Source(resolved.name, "folder", resolved)
    if not resolved.is_file():
        raise ModelError("no such file or folder", field=model, remedy="check the path")
    with resolved.open("rb") as file:
        if file.read(len(_GGUF_MAGIC)) != _GGUF_MAGIC:
            raise ModelError(
                "is not a GGUF file", field=model, remedy="give a GGUF file, or the folder that has the config.json"
            )
    return Source(resolved.stem, "gguf", resolved)


def _confine(model: str, resolved: Path, settings: Settings) -> None:
    """Refuse a path, or a file of a folder, that leads out of the allowed roots; symbolic links are followed first."""
    if not settings.model_roots:
        return
    roots = [root.resolve() for root in (*settings.model_roots, settings.cache_dir)]
    files = resolved.iterdir() if resolved.is_dir() else ()
    for place in (resolved, *(file.resolve() for file in files)):
        if not any(place.is_relative_to(root) for root in roots):
            raise ModelError(
                "lies outside the allowed folders", field=model, remedy="move it, or extend AUTOKV_MODEL_ROOTS"
            )


def _download(model: str, settings: Settings, *, weights: bool) -> Path:
    patterns = [*_TEXT_FILES, "*.safetensors"] if weights else ["config.json", "tokenizer_config.json"]
    shown = are_progress_bars_disabled()
    if not (weights and sys.stderr.isatty()):
        disable_progress_bars()
    try:
        return Path(
            snapshot_download(
                model,
                allow_patterns=patterns,
                ignore_patterns=list(_IGNORED),
                local_files_only=settings.offline,
            )
        )
    except GatedRepoError:
        raise ModelError(
            "is gated on the Hugging Face Hub", field=model, remedy="accept its licence there and log in"
        ) from None
    except (RepositoryNotFoundError, HFValidationError):
        raise ModelError(
            "is neither a local path nor a model on the Hugging Face Hub",
            field=model,
            remedy="check the name; a private model needs a login",
        ) from None
    except LocalEntryNotFoundError:
        raise ModelError(
            "is neither a local path nor in the hub's local cache, and the Hugging Face Hub cannot be reached",
            field=model,
            remedy="check the name and the network, or give a local folder",
        ) from None
    except (HfHubHTTPError, OSError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(f"cannot be downloaded: {first[:300]}", field=model) from error
    finally:
        if not shown:
            enable_progress_bars()
