"""What a reader of costs that were fitted to a log must know: it does not prove which model and device it is of."""

from __future__ import annotations

from collections.abc import Iterator

from autokv.serving.calibration import Calibration
from autokv.serving.server_log import ServerLog
from autokv.serving.shape import ModelShape

SLACK = 0.8
"""Of the time that reading the weights once takes: a step that is faster than that is implausible."""
NAMED = 3
"""Models of a log that are named."""


def doubts(
    found: Calibration, log: ServerLog, shape: ModelShape, *, model: str, device: str, bandwidth: float
) -> Iterator[str]:
    """For what the fit holds, and what speaks against that, a line each.

    Args:
        found: what was fitted.
        log: to which.
        shape: of the model that the log is said to be of.
        model: its name.
        device: the name of the device that the log is said to be of.
        bandwidth: of that device, bytes a second.
    """
    yield f"the costs are taken to be those of {model} on {device}; they hold only for the server that wrote the log"
    others = [name for name in log.models if _short(name) != _short(model)]
    if others:
        more = f" and {len(others) - NAMED} more" if len(others) > NAMED else ""
        yield f"warning: {found.log} names the model {', '.join(others[:NAMED])}{more}, not {model}"
    costs = found.costs
    step, least = costs.iteration + costs.token + costs.sequence, shape.weights_bytes / bandwidth
    # Of a mixture of experts, which has no products, a step reads only a part.
    if shape.products and step < SLACK * least:
        yield (
            f"warning: a decoding step was fitted to take {1e3 * step:.2g} ms, but {device} needs {1e3 * least:.2g} ms "
            f"to read the weights of {model}: the log may be of a smaller or quantized model, or of more devices"
        )


def _short(model: str) -> str:
    """A model's name without its owner or folder."""
    return model.rstrip("/").rpartition("/")[2].lower()
