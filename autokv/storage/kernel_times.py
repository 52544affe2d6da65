"""Kernel times: what was measured once on a device is not measured again there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import select

from autokv.evaluation.costs.cache import KernelTime
from autokv.storage.sessions import Sessions
from autokv.storage.tables import KernelTimeRow


class KernelTimes:
    """The repository of kernel times; an :class:`autokv.evaluation.costs.CostCache`."""

    def __init__(self, reading: Sessions, writing: Sessions) -> None:
        self._reading, self._writing = reading, writing

    def get(self, key: str) -> KernelTime | None:
        """The time of ``key`` that was stored last, by any process; None where there is none."""
        query = select(KernelTimeRow).where(KernelTimeRow.key == key).order_by(KernelTimeRow.id.desc()).limit(1)
        with self._reading() as session:
            row = session.scalars(query).first()
            return None if row is None else KernelTime(row.seconds, row.spread, row.runs)

    def put(self, key: str, document: Mapping[str, Any], time: KernelTime) -> None:
        """Store a time with the document that ``key`` is made of; earlier times of the key stay.

        Raises:
            StorageError: the database is locked or full.
        """
        with self._writing() as session:
            session.add(
                KernelTimeRow(
                    key=key, document=dict(document), seconds=time.seconds, spread=time.spread, runs=time.runs
                )
            )
