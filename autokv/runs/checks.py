"""What a request names, looked up before a model is loaded: a mistake is told in a second, not in minutes."""

from __future__ import annotations

from pathlib import Path

from autokv.errors import RequestError
from autokv.evaluation.baselines import has_float8
from autokv.evaluation.prompts.records import prompt_file_facts
from autokv.evaluation.prompts.text import read_text
from autokv.hardware import find
from autokv.models.placement import choose_device
from autokv.tuning.request import TuningRequest
from autokv.workload.scenarios import scenario_kind


def check_names(request: TuningRequest) -> None:
    """Check the device, the hardware, the scenario and the prompts that ``request`` names.

    Raises:
        InputError: one of them is not there, or is not what it should be.
    """
    device, fp8 = choose_device(request.device), "attention_fp8_us"
    if fp8 in request.metrics and not has_float8(device):
        raise RequestError(f"is not measured on {device}, which has no fp8", field=fp8, remedy="use attention_us")
    if request.hardware != "here":
        find(request.hardware)
    if request.scenario is not None:
        scenario_kind(request.scenario)
    if request.prompts is not None:
        prompt_file_facts(request.prompts)
    if request.text is not None:
        read_text(Path(request.text))
