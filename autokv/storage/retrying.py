"""Writing through an outage: a database that restarts does not end an attempt."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import tenacity

from autokv.errors import UnavailableError

OUTAGE_SECONDS = 120.0
"""How long a database may be away before a write gives up."""
LONGEST_PAUSE_SECONDS = 2.0

Result = TypeVar("Result")


def through_outages(write: Callable[[], Result], *, seconds: float | None = None) -> Result:
    """Call ``write`` again while the database cannot be reached, for ``OUTAGE_SECONDS`` or the given time.

    ``write`` is one transaction, and one that may be repeated: where the connection was lost while it committed, it may
    have been stored already, and finds that out itself.

    Raises:
        UnavailableError: the outage outlasts the time.
    """
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(UnavailableError),
        wait=tenacity.wait_random_exponential(multiplier=0.05, max=LONGEST_PAUSE_SECONDS),
        stop=tenacity.stop_after_delay(OUTAGE_SECONDS if seconds is None else seconds),
        reraise=True,
    )
    return retrying(write)
