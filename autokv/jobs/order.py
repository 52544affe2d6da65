"""What a worker tells the process of an attempt, and how that process says by its exit code how it ended."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from autokv.storage import Lease

ENDED = 0
"""The database knows how the attempt ended."""
AWAY = 75
"""The database could not be reached for too long."""


@dataclass(frozen=True)
class Order:
    """An attempt at a job. It travels through a pipe, not on a command line, because a URL may hold a password."""

    database: str
    job: str
    owner: str
    attempt: int
    device: str
    executor: str = "local"
    devices: int = 1
    """How many devices the executor may use."""

    @property
    def lease(self) -> Lease:
        """The right to run the job."""
        return Lease(self.job, self.owner, self.attempt)

    def to_json(self) -> str:
        """One line."""
        return json.dumps(asdict(self))

    @staticmethod
    def parse(text: str) -> Order:
        """The inverse of :meth:`to_json`."""
        return Order(**json.loads(text))
