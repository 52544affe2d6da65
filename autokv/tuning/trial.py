"""What a search leaves behind: trials, the front and the recommendation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

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
class TuningResult:
    """A finished search."""

    objectives: tuple[str, ...]
    trials: Sequence[TrialRecord]
    front: Sequence[FrontPoint]
    recommended: str | None
    """Digest, or ``None`` where nothing meets the constraints."""
    named: Mapping[str, str] = field(default_factory=dict)
    """``fastest``, ``smallest`` and ``knee`` to a digest."""
    reason: str = ""
    """Why this one, or why none; one line for a person."""
    hypervolume: Sequence[float] = ()
    """After each trial, normalised to the reference point and the ideal point of this run."""
    importance: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Objective to parameter to share of its variance."""
    stopped_by: StoppedBy = "trials"
