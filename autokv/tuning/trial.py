"""What a search leaves behind: trials, the front and the recommendation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from autokv.config import CompressionConfig
from autokv.evaluation.measurement import Measurement

TrialState = Literal["complete", "infeasible", "failed"]
StoppedBy = Literal["trials", "timeout", "patience", "interrupt", "exhausted"]
"""Why a search ended; ``exhausted`` where the space has no further candidate that can run."""


@dataclass(frozen=True)
class TrialRecord:
    """One trial, finished. Immutable: it is stored as it is and a resumed study is rebuilt from it."""

    number: int
    state: TrialState
    params: Mapping[str, Any]
    """Parameter values as the search space names them."""
    source: str
    """``literature: NAME`` for a known setting, else the sampler's name."""
    config: CompressionConfig | None
    """``None`` where the parameters do not even make a configuration."""
    measurement: Measurement | None
    reason: str | None
    """Why it is infeasible or failed, in one line."""
    seconds: float


@dataclass(frozen=True)
class FrontPoint:
    """A point of the front, with its confirmation on prompts that the search has not seen."""

    trial: int
    source: str
    calibration: Measurement
    validation: Measurement | None
    feasible: bool
    """Whether every constraint holds on the validation prompts."""


@dataclass(frozen=True)
class Decision:
    """Why the recommended configuration is the one, beside no compression; ready for JSON with ``asdict``."""

    objective: str
    """Name of the metric that decided."""
    headline: str
    """What it gains, in words and figures; or that compression does not help."""
    advice: tuple[str, ...] = ()
    """What would have to change for another answer, found by simulation."""
    notes: tuple[str, ...] = ()
    """What a reader of the figures must know: a baseline that moved, a prediction that nothing validated."""
    baseline: Mapping[str, float] = field(default_factory=dict)
    """Means of the 16-bit cache's metrics, judged as the front was."""

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Self:
        """The inverse of ``asdict``."""
        lists = {name: tuple(document[name]) for name in ("advice", "notes")}
        return cls(document["objective"], document["headline"], **lists, baseline=document["baseline"])


@dataclass(frozen=True)
class TuningResult:
    """A finished search."""

    objectives: tuple[str, ...]
    trials: Sequence[TrialRecord]
    front: Sequence[FrontPoint]
    recommended: str | None
    """Digest, or ``None`` where nothing meets the constraints."""
    named: Mapping[str, str] = field(default_factory=dict)
    """``fastest``, ``smallest``, ``knee`` and ``safest`` to a digest."""
    reason: str = ""
    """Why this one, or why none; one line for a person."""
    hypervolume: Sequence[float] = ()
    """After each trial, normalised to the reference point and the ideal point of this run."""
    importance: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Objective to parameter to share of its variance."""
    stopped_by: StoppedBy = "trials"
    decision: Decision | None = None
    """``None`` where nothing was recommended, and in results of versions that stored none."""
