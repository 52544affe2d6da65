"""Where kernels keep what they compiled and measured."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """``kernels`` in the cache folder, which ``AUTOKV_CACHE_DIR`` sets; it need not exist.

    The rule is that of :class:`autokv.settings.Settings`, which this room does not import.
    """
    chosen = os.environ.get("AUTOKV_CACHE_DIR")
    root = Path(chosen) if chosen else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "autokv"
    return root.expanduser() / "kernels"
