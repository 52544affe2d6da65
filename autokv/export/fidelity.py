"""What a target keeps of a configuration: exactly that, the nearest, or not all of its stages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

from autokv.config import (
    CompressionConfig,
    EvictionStage,
    FormatQuantization,
    FP8Quantization,
    IntegerQuantization,
    NoStage,
    Pipeline,
    Quantization,
)
from autokv.formats import FP8E4M3, KVFormat, MinMaxInteger, Rotation

Level = Literal["exact", "nearest", "not_expressible"]
PARTS: Final = (
    "eviction",
    "quantization.key",
    "quantization.value",
    "quantization.layers",
    "quantization.residual_tokens",
    "low_rank",
    "write",
)
"""What is compared, each as a path in a pipeline."""


@dataclass(frozen=True)
class Change:
    """One part that a target holds otherwise than it was asked to."""

    stage: str
    """One of :data:`PARTS`."""
    asked: str
    held: str
    why: str


@dataclass(frozen=True)
class Fidelity:
    """How a target holds a configuration.

    ``held`` is what it would really do, under its own write rule: the loss of ``held`` is the loss of the target.
    """

    level: Level
    """``exact``: nothing changes. ``nearest``: some values change. ``not_expressible``: a whole stage is lost."""
    held: CompressionConfig
    changes: tuple[Change, ...]

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "level": self.level,
            "held": self.held.model_dump(mode="json"),
            "changes": [change.__dict__ for change in self.changes],
        }


def form_of(stage: Quantization, side: Literal["key", "value"]) -> tuple[KVFormat, Rotation] | None:
    """The format of one side, and the rotation that is not part of it; None in 16 bits."""
    if isinstance(stage, IntegerQuantization):
        own = getattr(stage, side)
        integers = MinMaxInteger(bits=own.bits, axis=own.axis, group_size=own.group_size, rotation=stage.rotation)
        return integers, "none"
    if isinstance(stage, FP8Quantization):
        return FP8E4M3(scaling="head"), stage.rotation
    return (getattr(stage, side), "none") if isinstance(stage, FormatQuantization) else None


def part(pipeline: Pipeline, name: str) -> object:
    """The value of one of :data:`PARTS`."""
    stage = pipeline.quantization
    values: dict[str, Callable[[], object]] = {
        "eviction": lambda: pipeline.eviction,
        "quantization.key": lambda: form_of(stage, "key"),
        "quantization.value": lambda: form_of(stage, "value"),
        "quantization.layers": lambda: getattr(stage, "layers", ()),
        "quantization.residual_tokens": lambda: getattr(stage, "residual_tokens", 0),
        "low_rank": lambda: pipeline.low_rank,
        "write": lambda: pipeline.write,
    }
    return values[name]()


def differing(asked: Pipeline, held: Pipeline) -> tuple[str, ...]:
    """The parts that are not the same."""
    return tuple(name for name in PARTS if part(asked, name) != part(held, name))


def compare(asked: CompressionConfig, held: CompressionConfig, why: Callable[[str], str]) -> Fidelity:
    """The fidelity of ``held`` to ``asked``; ``why`` gives the reason for a part that differs."""
    before, after = asked.pipeline, held.pipeline
    changes = tuple(
        Change(name, in_words(part(before, name)), in_words(part(after, name)), why(name))
        for name in differing(before, after)
    )
    lost = any(
        not isinstance(getattr(before, stage), NoStage) and isinstance(getattr(after, stage), NoStage)
        for stage in ("quantization", "low_rank")
    )
    if isinstance(before.eviction, EvictionStage) and before.eviction.evicts:
        lost = lost or isinstance(after.eviction, NoStage)
    level: Level = "not_expressible" if lost else "nearest" if changes else "exact"
    return Fidelity(level, held, changes)


def in_words(value: object) -> str:
    """A part in a few words: the method or format, then what is not its default."""
    if value is None:
        return "16 bits"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, tuple):
        if not value:
            return "as the others"
        if isinstance(value[0], KVFormat):
            form, rotation = value
            return in_words(form) + (f" ({rotation})" if rotation != "none" else "")
        return "; ".join(_layers(entry) for entry in value)
    if isinstance(value, NoStage):
        return "none"
    fields = type(value).model_fields  # type: ignore[attr-defined]
    tag = next(name for name in ("format", "method", "rule") if name in fields)
    told = [getattr(value, tag)]
    for name, field in fields.items():
        own = getattr(value, name)
        if name == tag or own == field.default or own is None:
            continue
        if name == "options":
            told += [f"{key} {option}" for key, option in own if option != type(own).model_fields[key].default]
        else:
            told.append("given scales" if isinstance(own, tuple) else f"{name} {own}")
    return ", ".join(told)


def _layers(entry: Any) -> str:  # noqa: ANN401 - LayerFormats
    which = entry.layers if isinstance(entry.layers, str) else ", ".join(map(str, entry.layers))
    held = in_words(entry.key) if entry.key == entry.value else f"{in_words(entry.key)} / {in_words(entry.value)}"
    return f"{which}: {held}"
