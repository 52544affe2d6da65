"""What a request names, looked up before a model is loaded: a mistake is told in a second, not in minutes."""

from __future__ import annotations

from pathlib import Path

from autokv.evaluation.prompts.records import prompt_file_facts
from autokv.evaluation.prompts.text import read_text
from autokv.hardware import find
from autokv.jobs.plan import check_measurable
from autokv.models.placement import choose_device
from autokv.tuning.request import TuningRequest
from autokv.workload.scenarios import scenario_kind


def check_names(request: TuningRequest) -> None:
    """Check the device, the hardware, the scenario and the prompts that ``request`` names.

    Raises:
        InputError: one of them is not there, or is not what it should be.
    """
    check_measurable(request, choose_device(request.device))
    if request.hardware != "here":
        find(request.hardware)
    if request.scenario is not None:
        scenario_kind(request.scenario)
    if request.prompts is not None:
        prompt_file_facts(request.prompts)
    if request.text is not None:
        read_text(Path(request.text))
