"""Third-party code that reads models, kept silent and made to fail with one line."""

from __future__ import annotations

import io
import logging as levels
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr

from transformers.utils import logging

from autokv.errors import AutoKVError, ModelError


@contextmanager
def quiet() -> Iterator[None]:
    """Silence transformers' logs, warnings and progress bars, and restore them on leaving.

    Some of its progress bars obey no switch, hence the redirection of standard error.
    """
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(levels.CRITICAL)
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


@contextmanager
def reading(name: str, what: str) -> Iterator[None]:
    """Whatever transformers raises inside becomes one :class:`ModelError` that says ``what`` could not be read.

    Its errors come from many packages and share no base class, so every ``Exception`` is taken.
    """
    try:
        with quiet():
            yield
    except AutoKVError:
        raise
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = lines[0] if lines else type(error).__name__
        raise ModelError(f"{what} cannot be read: {reason[:300]}", field=name) from error
