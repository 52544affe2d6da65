"""Who is told how a run goes, and how it is asked to stop."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from autokv.errors import Interrupted
from autokv.tuning.search import Progress
from autokv.tuning.trial import TrialRecord


class Listener(Protocol):
    """Who is told how a run goes."""

    def say(self, text: str) -> None:
        """Something worth a line."""

    def trial(self, record: TrialRecord) -> None:
        """A trial has ended and is stored."""

    def batch(self, progress: Progress) -> None:
        """A batch of trials has ended."""


class Stop:
    """Asks a run to stop, which it does between prompts; a patient one finishes the batch of trials that it began.

    ``event`` may be set from a signal handler or another thread.
    """

    def __init__(self, event: threading.Event, *, patient: bool = False) -> None:
        self._event, self._patient, self._in_batch = event, patient, False

    def asked(self) -> bool:
        """Whether the run is to stop."""
        return self._event.is_set()

    def check(self) -> None:
        """Stop here, if asked to and if this is a place to stop.

        Raises:
            Interrupted: it is.
        """
        if self._event.is_set() and not (self._patient and self._in_batch):
            raise Interrupted("stopped")

    @contextmanager
    def batch(self) -> Iterator[None]:
        """While a batch of trials runs."""
        self._in_batch = True
        try:
            yield
        finally:
            self._in_batch = False
