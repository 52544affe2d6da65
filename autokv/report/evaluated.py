"""Judged configurations as a picture: quality and attention time over bytes, each dot named."""

from __future__ import annotations

from collections.abc import Sequence

from autokv.evaluation.measurement import Measurement
from autokv.report import view
from autokv.report.describe import describe
from autokv.report.environment import render
from autokv.report.figures import front_svg
from autokv.tuning.trial import FrontPoint, TuningResult


def picture(judged: Sequence[tuple[str, Measurement]], suffix: str) -> str:
    """The measurements, each with its name, as an SVG, or as an HTML page that holds it and needs no script.

    The dot of the 16-bit cache is called so, as in a report.
    """
    drawn = front_svg(
        TuningResult(
            objectives=("kl_divergence", view.BYTES),
            trials=(),
            front=[
                FrontPoint(number, "file", calibration=measurement, validation=None, feasible=True)
                for number, (_, measurement) in enumerate(judged)
            ],
            recommended=None,
            named={
                name: measurement.config.digest
                for name, measurement in judged
                if not measurement.config.pipeline.is_identity
            },
        )
    )
    if suffix == ".svg":
        return drawn
    names = [(name, describe(measurement.config)) for name, measurement in judged]
    return render("evaluated.html.jinja", picture=drawn, names=names)
