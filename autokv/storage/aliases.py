"""Aliases: names that stand for one configuration each, and never lose where they stood before.

Every change names the revision that it replaces, and leaves the next one; of two that name the same, one is refused.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import delete, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from autokv.errors import ConflictError, NotFoundError, PreconditionError
from autokv.storage.columns import database_now
from autokv.storage.configurations import row_of
from autokv.storage.repository import Cursor, Repository, newest_first
from autokv.storage.service_tables import AliasMoveRow, AliasRow
from autokv.storage.tables import ConfigurationRow
from autokv.wire import AliasAction, AliasMove, AliasView


class Aliases(Repository):
    """The repository of aliases. A configuration is named by its id, or by how its digest begins."""

    def get(self, name: str) -> AliasView:
        """The alias of this name.

        Raises:
            NotFoundError: there is none.
        """
        with self._reading() as session:
            row = session.get(AliasRow, name)
            if row is None:
                raise _missing(name)
            return AliasView.model_validate(row)

    def page(self, cursor: Cursor = None, limit: int = 50) -> tuple[tuple[AliasView, ...], Cursor]:
        """Aliases, the newest first, and where the next page begins."""
        columns = (AliasRow.created, AliasRow.name)
        with self._reading() as session:
            rows, following = newest_first(session, select(AliasRow), columns, cursor, limit)
            return tuple(AliasView.model_validate(row) for (row,) in rows), following

    def history(
        self, name: str, before: int | None = None, limit: int = 50
    ) -> tuple[tuple[AliasMove, ...], int | None]:
        """What an alias stood for, the newest first from below revision ``before``, and below which the rest is.

        Raises:
            NotFoundError: there is no such alias.
        """
        query = select(AliasMoveRow).where(AliasMoveRow.alias == name)
        if before is not None:
            query = query.where(AliasMoveRow.revision < before)
        with self._reading() as session:
            if session.get(AliasRow, name) is None:
                raise _missing(name)
            rows = session.scalars(query.order_by(AliasMoveRow.revision.desc()).limit(limit + 1)).all()
            moves = tuple(map(AliasMove.model_validate, rows[:limit]))
            return moves, moves[-1].revision if len(rows) > limit else None

    def create(self, name: str, configuration: str, note: str = "") -> AliasView:
        """Make an alias, at revision 1.

        Raises:
            NotFoundError: there is no such configuration.
            PreconditionError: there is an alias of this name.
        """
        with self._writing() as session:
            target = row_of(session, configuration)
            try:
                with session.begin_nested():
                    row = AliasRow(name=name, revision=0, configuration=target.id)
                    session.add(row)
            except IntegrityError:
                row_of(session, configuration)  # It may have been deleted since.
                raise PreconditionError(
                    "is there already", field=f"alias {name}", remedy="read its revision and move it"
                ) from None
            return _change(session, row, target, "created", note)

    def move(self, name: str, configuration: str, note: str, expected_revision: int) -> AliasView:
        """Let an alias stand for another configuration.

        Raises:
            NotFoundError: there is no such alias or configuration.
            PreconditionError: the alias is not at ``expected_revision``.
        """
        with self._writing() as session:
            row = _held(session, name, expected_revision)
            return _change(session, row, row_of(session, configuration), "moved", note)

    def roll_back(self, name: str, expected_revision: int, to: int | None = None, note: str = "") -> AliasView:
        """Let an alias stand for what it stood for at revision ``to``; without it, for what the last change replaced.

        Rolling back twice goes two changes back.

        Raises:
            NotFoundError: there is no such alias or revision.
            PreconditionError: the alias is not at ``expected_revision``.
            ConflictError: there is nothing before.
        """
        with self._writing() as session:
            row = _held(session, name, expected_revision)
            query = select(AliasMoveRow).where(AliasMoveRow.alias == name).order_by(AliasMoveRow.revision)
            target = _earlier(name, session.scalars(query).all(), to)
            return _change(session, row, row_of(session, target), "rolled_back", note)

    def delete(self, name: str, expected_revision: int) -> None:
        """Delete an alias with its history.

        Raises:
            NotFoundError: there is no such alias.
            PreconditionError: the alias is not at ``expected_revision``.
        """
        with self._writing() as session:
            row = _held(session, name, expected_revision)
            session.execute(delete(AliasMoveRow).where(AliasMoveRow.alias == name))
            session.delete(row)


def _held(session: Session, name: str, expected_revision: int) -> AliasRow:
    """The row of an alias, locked, at the revision that it is thought to have."""
    row = session.get(AliasRow, name, with_for_update=True)
    if row is None:
        raise _missing(name)
    if row.revision != expected_revision:
        raise PreconditionError(
            f"is at revision {row.revision}, not {expected_revision}",
            field=f"alias {name}",
            remedy="read it again, and decide anew",
        )
    return row


def _change(session: Session, row: AliasRow, target: ConfigurationRow, action: AliasAction, note: str) -> AliasView:
    row.revision += 1
    row.configuration = target.id
    row.moved = database_now()
    session.add(AliasMoveRow(alias=row.name, revision=row.revision, configuration=target.id, action=action, note=note))
    session.flush()
    session.refresh(row)
    return AliasView.model_validate(row)


def _earlier(name: str, moves: Sequence[AliasMoveRow], to: int | None) -> str:
    """The configuration to go back to; ``moves`` are all, by revision."""
    if to is None:
        kept = undone(moves)
        if len(kept) < 2:
            raise ConflictError("has nothing to go back to", field=f"alias {name}", remedy="move it instead")
        return kept[-2]
    found = next((move.configuration for move in moves if move.revision == to), None)
    if found is None:
        raise NotFoundError(f"has no revision {to}", field=f"alias {name}", remedy="see its history")
    return found


def undone(moves: Sequence[AliasMoveRow]) -> list[str]:
    """The configurations that an alias stands and stood for, without what was rolled back, the oldest first."""
    kept: list[str] = []
    for move in moves:
        earlier = kept[:-1]
        if move.action == "rolled_back" and move.configuration in earlier:
            kept = kept[: len(earlier) - earlier[::-1].index(move.configuration)]
        else:
            kept.append(move.configuration)
    return kept


def _missing(name: str) -> NotFoundError:
    return NotFoundError("there is no such alias", field=f"alias {name}", remedy="see the list of aliases")
