"""Fitting a space to a model's ``head_dim``, so that a search wastes nothing on what cannot run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from autokv.errors import SpaceError
from autokv.search_spaces.stage import Choices, Domain, Fields, Parameter, Range, Scalar, Stage

SIDES = ("key", "value")
WHOLE = 8
"""Channels of a whole head that may be one group are a multiple of this."""


def fit_stage(stage: Stage, head_dim: int) -> Stage:
    """Drop what no pipeline can run: ranks over ``head_dim``, token-axis groups that do not divide it.

    Where no group divides it and a token's channels cannot do without one (72, say), a group is the whole head.

    Raises:
        SpaceError: no method of the stage is left.
    """
    methods = {}
    for method, fields in stage.methods.items():
        fitted = _fit_fields(fields, head_dim)
        if fitted is not None:
            methods[method] = fitted
    if not methods:
        raise SpaceError(
            f"no method fits head_dim {head_dim}",
            field=f"stages.{stage.name}",
            remedy='add smaller groups or ranks, or {"method": "none"}',
        )
    return replace(stage, methods=methods)


def _fit_fields(fields: Fields, head_dim: int) -> Fields | None:
    """The fields that remain, or ``None`` where a field is left without a value."""
    fitted = dict(fields)

    def keep(path: str, allowed: Callable[[Scalar], bool]) -> bool:
        field = fitted[path]
        if not isinstance(field, Parameter):
            return allowed(field)
        domain = narrow(field.domain, allowed)
        if isinstance(domain, Choices | Range):
            fitted[path] = replace(field, domain=domain)
        elif domain is not None:
            fitted[path] = domain
        return domain is not None

    for side in SIDES:
        axis, group = f"{side}.axis", f"{side}.group_size"
        if axis in fields and group in fields:
            divides = any(head_dim % int(size) == 0 for size in values(fields[group]))
            if not divides and values(fields[axis]) == ("token",) and head_dim % WHOLE == 0:
                fitted[group] = head_dim
            elif not divides and not keep(axis, lambda value: value != "token"):
                return None
            if values(fitted[axis]) == ("token",) and not keep(group, lambda size: head_dim % int(size) == 0):
                return None
        rank = f"{side}_rank"
        if rank in fields and not keep(rank, lambda value: int(value) <= head_dim):
            return None
    return fitted


def values(field: Parameter | Scalar) -> tuple[Scalar, ...]:
    """Every value that a field may take."""
    return field.domain.grid() if isinstance(field, Parameter) else (field,)


def narrow(domain: Domain, allowed: Callable[[Scalar], bool]) -> Domain | Scalar | None:
    """The part of a finite domain that is allowed: a domain, its only value, or ``None``."""
    grid = domain.grid()
    left = tuple(value for value in grid if allowed(value))
    if left == grid:
        return domain
    if len(left) < 2:
        return left[0] if left else None
    if isinstance(domain, Range) and left == grid[: len(left)]:
        return domain.model_copy(update={"high": left[-1]})
    return Choices(left)


def repair(document: dict[str, Any], stages: Mapping[str, Stage], head_dim: int) -> None:
    """Turn combinations of stages that cannot run into the nearest that can, in place.

    A low-rank stage without any rank, or a ``residual`` of a quantization that is not there, becomes ``none`` where
    the space has it. A token-axis group that does not divide the channels of a token (``head_dim``, or the rank of a
    latent basis) becomes the largest of the space's sizes below it that does, else the smallest above it; where none
    does, the axis becomes ``channel`` if the space has it, else the group all of a token's channels.
    """
    quantization, low_rank = document["quantization"], document["low_rank"]
    ranks = {side: low_rank.get(f"{side}_rank", 0) for side in SIDES}
    method = low_rank["method"]
    useless = method != "none" and not any(ranks.values())
    useless |= method == "residual" and quantization["method"] == "none"
    if useless and "none" in stages["low_rank"].methods:
        document["low_rank"] = {"method": "none"}
    if quantization["method"] != "integer":
        return
    integer = stages["quantization"].methods["integer"]
    for side in SIDES:
        width = ranks[side] if method == "latent" and ranks[side] else head_dim
        field = integer.get(f"{side}.group_size")
        if quantization[side].get("axis") != "token" or field is None:
            continue
        size = quantization[side]["group_size"]
        fitting = [int(own) for own in values(field) if width % int(own) == 0]
        if fitting and size not in fitting:
            quantization[side]["group_size"] = max((own for own in fitting if own < size), default=min(fitting))
        elif not fitting and "channel" in values(integer.get(f"{side}.axis", "token")):
            quantization[side]["axis"] = "channel"
        elif not fitting and width % WHOLE == 0:
            quantization[side]["group_size"] = width


def largest(field: Parameter | Scalar) -> Scalar:
    """The largest value of a field; the first where the values are not numbers."""
    if not isinstance(field, Parameter):
        return field
    if isinstance(field.domain, Range):
        return field.domain.high
    first = field.domain.values[0]
    return first if isinstance(first, str) else max(field.domain.values, key=float)
