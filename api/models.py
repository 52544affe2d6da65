"""Models that jobs may name."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from autokv import settings
from autokv.api.paging import PageQuery, refused
from autokv.api.responses import problems
from autokv.models.offered import OfferedModel, offered
from autokv.wire import ModelView, Page

router = APIRouter(tags=["models"])


class ModelsQuery(PageQuery):
    """Which models; they come in the order of their names."""

    @property
    def after(self) -> str:
        """The last name of the page before.

        Raises:
            RequestError: the cursor is none of this list.
        """
        parts = self.parts or [""]
        if len(parts) != 1 or not isinstance(parts[0], str):
            raise refused()
        return parts[0]


@router.get("/models", summary="List models", responses=problems())
def models(query: Annotated[ModelsQuery, Query()]) -> Page[ModelView]:
    """The models of the allowed folders, of the cache, and of the hub's local cache, by name.

    A job may name a Hugging Face id that is not here, too: its worker downloads it, unless it is set to stay offline.
    """
    after = query.after
    found = [model for model in offered(settings.current()) if model.name > after]
    shown = found[: query.limit]
    following = [shown[-1].name] if len(found) > query.limit else None
    return Page(items=tuple(map(_view, shown)), next=query.encoded(following))


def _view(model: OfferedModel) -> ModelView:
    return ModelView(
        name=model.name,
        source=model.source,
        architecture=model.architecture,
        context_tokens=model.context_tokens,
        size_bytes=model.size_bytes,
    )
