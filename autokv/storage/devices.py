"""What is known of devices: hardware profiles, and times of kernels, which are not measured again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from autokv.errors import ConflictError, NotFoundError
from autokv.evaluation.costs.cost_cache import KernelTime
from autokv.storage.repository import Cursor, Repository, newest_first
from autokv.storage.service_tables import HardwareProfileRow, ProfileSource, WorkerRow
from autokv.storage.tables import JobRow, KernelTimeRow
from autokv.wire import HardwareProfileView


class Profiles(Repository):
    """The repository of hardware profiles."""

    def add(self, document: Mapping[str, Any], name: str, source: ProfileSource) -> tuple[HardwareProfileView, bool]:
        """Store a profile, as :meth:`autokv.hardware.HardwareProfile.to_dict` makes it, and say whether it is new: an
        equal document of one name and source is one profile."""
        with self._writing() as session:
            row, new = put(session, document, name, source)
            return HardwareProfileView.model_validate(row), new

    def get(self, profile_id: str) -> HardwareProfileView:
        """The profile of this id.

        Raises:
            NotFoundError: there is none.
        """
        with self._reading() as session:
            row = session.get(HardwareProfileRow, profile_id)
            if row is None:
                raise _missing(profile_id)
            return HardwareProfileView.model_validate(row)

    def page(self, cursor: Cursor = None, limit: int = 50) -> tuple[tuple[HardwareProfileView, ...], Cursor]:
        """Profiles, the newest first, and where the next page begins."""
        columns = (HardwareProfileRow.created, HardwareProfileRow.id)
        with self._reading() as session:
            rows, following = newest_first(session, select(HardwareProfileRow), columns, cursor, limit)
        return tuple(HardwareProfileView.model_validate(row) for (row,) in rows), following

    def delete(self, profile_id: str) -> None:
        """Delete a profile.

        Raises:
            NotFoundError: there is none of this id.
            ConflictError: a job uses it, or a worker measured it; workers are kept, because attempts name them.
        """
        with self._writing() as session:
            row = session.get(HardwareProfileRow, profile_id, with_for_update=True)
            if row is None:
                raise _missing(profile_id)
            for kind, key, column in (("job", JobRow.id, JobRow.profile), ("worker", WorkerRow.id, WorkerRow.profile)):
                user = session.scalars(select(key).where(column == profile_id).limit(1)).first()
                if user is not None:
                    remedy = "delete the job first" if kind == "job" else "it stays"
                    raise ConflictError(f"is used by {kind} {user}", field=f"profile {profile_id}", remedy=remedy)
            session.delete(row)


def put(
    session: Session, document: Mapping[str, Any], name: str, source: ProfileSource
) -> tuple[HardwareProfileRow, bool]:
    """The newest row of this device, name and source where its document is equal, else a new one; and whether it is."""
    same = (
        HardwareProfileRow.fingerprint == document["fingerprint"],
        HardwareProfileRow.name == name,
        HardwareProfileRow.source == source,
    )
    newest = select(HardwareProfileRow).where(*same).order_by(HardwareProfileRow.created.desc()).limit(1)
    row = session.scalars(newest).first()
    if row is not None and row.profile == document:
        return row, False
    row = HardwareProfileRow(name=name, fingerprint=document["fingerprint"], source=source, profile=dict(document))
    session.add(row)
    session.flush()
    return row, True


def _missing(profile_id: str) -> NotFoundError:
    return NotFoundError(
        "there is no such hardware profile", field=f"profile {profile_id}", remedy="see the list of hardware profiles"
    )


class KernelTimes(Repository):
    """The repository of kernel times; an :class:`autokv.evaluation.costs.CostCache`."""

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
            session.add(KernelTimeRow(key=key, document=dict(document), **asdict(time)))
