"""Names of models."""

from __future__ import annotations

import re

MAX_NAME_CHARACTERS = 4096
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?", re.ASCII)


def is_hub_id(name: str) -> bool:
    """Whether ``name`` is spelled as a model on the Hugging Face Hub is: ``name`` or ``owner/name``."""
    return _HUB_ID.fullmatch(name) is not None
