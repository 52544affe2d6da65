"""Search spaces: which configurations a search may try. Each built-in space is a YAML file of this package."""

from __future__ import annotations

from pathlib import Path

from autokv.errors import SpaceError, nearest
from autokv.search_spaces.document import build_space, read_space
from autokv.search_spaces.space import SearchSpace

__all__ = ["SearchSpace", "build_space", "load_space", "names", "read_space"]

FOLDER = Path(__file__).parent


def names() -> tuple[str, ...]:
    """Names of the built-in spaces."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.yaml")))


def load_space(name_or_path: str) -> SearchSpace:
    """A built-in space by name, or a YAML file by path.

    Raises:
        SpaceError: there is no such space, or the file is not one.
    """
    if name_or_path in names():
        return read_space(FOLDER / f"{name_or_path}.yaml")
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml", ".json") and not path.is_file():
        raise SpaceError(
            f"there is no search space {name_or_path!r}",
            field="space",
            remedy=nearest(name_or_path, names()) or f"choose from {', '.join(names())}, or name a YAML file",
        )
    return read_space(path)
