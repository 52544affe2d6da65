"""Aliases: names that stand for configurations, moved by compare-and-set."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Path, Query, Response
from starlette.exceptions import HTTPException

from autokv.api.configurations import ASK_AGAIN, As, document_answer, documented, tag, unchanged
from autokv.api.dependencies import DatabaseDep
from autokv.api.headers import MAX_HEADER, Accept, IfNoneMatch, chosen, known, tags
from autokv.api.paging import PageQuery
from autokv.api.responses import UNCHANGED, answer, located, problems
from autokv.errors import PreconditionError, RequestError
from autokv.wire import AliasMove, AliasMoveRequest, AliasName, AliasRollbackRequest, AliasView, Page

router = APIRouter(tags=["aliases"])
Name = Annotated[AliasName, Path(description="lower-case letters, digits, and . _ - between them")]
IfMatch = Annotated[
    str | None,
    Header(alias="If-Match", max_length=MAX_HEADER, description='the revision that is replaced, as in `"3"`'),
]


class HistoryQuery(PageQuery):
    """Which moves; they come by revision, the newest first."""


@router.get("/aliases", summary="List aliases", responses=problems())
def aliases(query: Annotated[PageQuery, Query()], database: DatabaseDep) -> Page[AliasView]:
    """Aliases, the newest first."""
    found, following = database.aliases.page(query.position, query.limit)
    return query.page(map(AliasView.model_validate, found), following)


@router.put(
    "/aliases/{name}",
    response_model=AliasView,
    summary="Create or move an alias",
    responses=problems(404, 412, 428, body=True) | {201: {**located("Created."), "model": AliasView}},
)
def put(
    name: Name,
    body: AliasMoveRequest,
    database: DatabaseDep,
    if_match: IfMatch = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Point an alias at a configuration: `If-None-Match: *` creates it, `If-Match: "revision"` moves it."""
    if if_match is not None and if_none_match is not None:
        raise RequestError("cannot be combined with If-None-Match", field="If-Match", remedy="send one of them")
    if if_none_match is not None:
        if if_none_match.strip() != "*":
            raise RequestError("is not `*`", field="If-None-Match", remedy="use If-Match to move an alias")
        created = database.aliases.create(name, body.configuration, body.note)
        return _answer(created, 201, Location=f"/v1/aliases/{name}")
    return _answer(database.aliases.move(name, body.configuration, body.note, _revision(if_match)))


@router.get("/aliases/{name}", response_model=AliasView, summary="Show an alias", responses=problems(404) | UNCHANGED)
def alias(name: Name, database: DatabaseDep, if_none_match: IfNoneMatch = None) -> Response:
    """What an alias stands for; the ETag is its revision."""
    found = database.aliases.get(name)
    if known(if_none_match, _tag(found)):
        return Response(status_code=304, headers=_headers(found))
    return _answer(found)


@router.get(
    "/aliases/{name}/configuration",
    response_class=Response,
    summary="Download what an alias stands for",
    responses=problems(404, 406) | UNCHANGED | documented("The document.", {"type": "object"}),
)
def configuration(
    name: Name, query: As, database: DatabaseDep, accept: Accept = None, if_none_match: IfNoneMatch = None
) -> Response:
    """The document of the configuration that the alias stands for now, as JSON or YAML: what a deployment reads.

    The ETag is that of the configuration, so that an alias that moved back to it is not downloaded again.
    """
    form, found = chosen(query, accept), database.aliases.get(name)
    if known(if_none_match, tag(found.configuration, form)):
        return unchanged(found.configuration, form, ASK_AGAIN)
    return document_answer(database.configurations.find(found.configuration), form, None, cache=ASK_AGAIN)


@router.get("/aliases/{name}/history", summary="History of an alias", responses=problems(404))
def history(name: Name, query: Annotated[HistoryQuery, Query()], database: DatabaseDep) -> Page[AliasMove]:
    """Everything that an alias stood for, the newest first."""
    moves, before = database.aliases.history(name, query.after(int), query.limit)
    following = None if before is None else [before]
    return Page(items=moves, next=query.encoded(following))


@router.post(
    "/aliases/{name}/rollback",
    response_model=AliasView,
    summary="Roll an alias back",
    responses=problems(404, 409, 412, 428, body=True),
)
def roll_back(
    name: Name, database: DatabaseDep, body: AliasRollbackRequest | None = None, if_match: IfMatch = None
) -> Response:
    """Point an alias at what its last move replaced, or at what it stood for at a revision.

    Rolling back twice goes two moves back; everything stays in the history.
    """
    asked = body or AliasRollbackRequest()
    return _answer(database.aliases.roll_back(name, _revision(if_match), asked.revision, asked.note))


@router.delete("/aliases/{name}", status_code=204, summary="Delete an alias", responses=problems(404, 412, 428))
def delete(name: Name, database: DatabaseDep, if_match: IfMatch = None) -> None:
    """Delete an alias with its history; its configurations stay."""
    database.aliases.delete(name, _revision(if_match))


def _revision(if_match: str | None) -> int:
    """The revision that a caller thinks is the last.

    Raises:
        HTTPException: 428; no revision is named.
        PreconditionError: it is none that an alias can have.
    """
    if if_match is None or if_match.strip() == "*":
        raise HTTPException(428, "no revision is named")
    named = tags(if_match, "If-Match")
    text = named[0].strip('"')
    if len(named) != 1 or not text.isdecimal() or len(text) > 9:
        raise PreconditionError(f"{if_match[:100]} is no revision", field="If-Match", remedy="read the alias again")
    return int(text)


def _answer(alias: AliasView, status: int = 200, **headers: str) -> Response:
    return answer(alias, status, _headers(alias) | headers)


def _headers(alias: AliasView) -> dict[str, str]:
    return {"ETag": _tag(alias), "Cache-Control": ASK_AGAIN}


def _tag(alias: AliasView) -> str:
    return f'"{alias.revision}"'
