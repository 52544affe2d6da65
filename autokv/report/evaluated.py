"""Judged configurations as a picture: quality and attention time over bytes, each dot named."""

from __future__ import annotations

from collections.abc import Sequence

from autokv.evaluation.measurement import Measurement
from autokv.report import view
from autokv.report.describe import describe
from autokv.report.figures import front_svg
from autokv.report.html import Markup, join, tag
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
    title = "Quality against bytes of the KV cache"
    head = join(
        tag("meta", None, charset="utf-8"),
        tag("meta", None, name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", title),
        tag("style", "body{font:16px/1.5 system-ui,sans-serif;margin:2rem}svg{max-width:100%;height:auto}"),
    )
    names = join(*(tag("li", f"{name}: {describe(measurement.config)}") for name, measurement in judged))
    body = tag("body", join(tag("h1", title), Markup(drawn), tag("ul", names)))
    return f"<!doctype html>\n{tag('html', join(tag('head', head), body), lang='en')}\n"
