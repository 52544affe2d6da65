"""Names that the shell completes. Loads without torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable


def _beginning(names: Callable[[], Iterable[str]], suffix: str = "") -> Callable[[str], list[str]]:
    def complete(incomplete: str) -> list[str]:
        """The names that begin as what is typed so far."""
        return [f"{name}{suffix}" for name in names() if name.startswith(incomplete)]

    return complete


def _spaces() -> Iterable[str]:
    from autokv.search_spaces import names

    return names()


def _scenarios() -> Iterable[str]:
    from autokv.workload.scenarios import SCENARIOS

    return SCENARIOS


def _hardware() -> Iterable[str]:
    from autokv.hardware import catalog

    return ("here", *catalog.sheets())


def _metrics() -> Iterable[str]:
    from autokv.evaluation.metrics import METRICS

    return METRICS


def _models() -> Iterable[str]:
    from autokv import settings
    from autokv.models.offered import offered

    return (model.name for model in offered(settings.current()))


model = _beginning(_models)
space = _beginning(_spaces)
scenario = _beginning(_scenarios)
hardware = _beginning(_hardware)
metric = _beginning(_metrics)
bound = _beginning(_metrics, "=")
slo = _beginning(lambda: ("ttft_ms", "tpot_ms"), "=")
sampler = _beginning(lambda: ("tpe", "nsgaii", "gp", "random"))
dtype = _beginning(lambda: ("auto", "float32", "bfloat16", "float16"))
device = _beginning(lambda: ("auto", "cpu", "cuda", "cuda:0"))
