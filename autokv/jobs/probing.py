"""Measuring a device from a process without torch; ``python -m autokv.jobs.probing DEVICE`` is the other one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass

from autokv.errors import AutoKVError, RequestError
from autokv.hardware import HardwareProfile
from autokv.jobs.leash import end_with_parent, leash

PROBE_SECONDS = 300.0
"""Longest that loading torch and measuring may take."""


@dataclass(frozen=True)
class Probed:
    """A device, such as ``cuda:0``, and what it was measured to be."""

    device: str
    profile: HardwareProfile


def probe_apart(device: str) -> Probed:
    """Measure ``device`` (``auto``, ``cpu``, ``cuda`` or ``cuda:N``) in another process.

    Raises:
        RequestError: no such device here, or it could not be measured.
    """
    command = [sys.executable, "-P", "-m", "autokv.jobs.probing", device]
    try:
        with leash() as held:
            done = subprocess.run(  # noqa: S603 - this interpreter, and a name that the module checks
                command, stdin=held, capture_output=True, text=True, timeout=PROBE_SECONDS
            )
    except subprocess.TimeoutExpired:
        raise RequestError(f"measuring takes longer than {PROBE_SECONDS:.0f} s", field=f"device {device}") from None
    answer = done.stdout.strip().rpartition("\n")[2]
    if done.returncode:
        why = (done.stderr.strip() or f"exit code {done.returncode}").rpartition("\n")[2]
        raise RequestError(f"could not be measured ({why})", field=f"device {device}")
    document = json.loads(answer)
    if "error" in document:
        raise RequestError(**document["error"])
    return Probed(document["device"], HardwareProfile.from_dict(document["profile"]))


def main(device: str) -> None:
    """Print what was found, or the error that says why not, as a line of JSON."""
    from autokv.hardware import probe
    from autokv.models.placement import choose_device

    try:
        chosen = choose_device(device)
        answer: dict[str, object] = {"device": str(chosen), "profile": probe(chosen).to_dict()}
    except AutoKVError as error:
        answer = {"error": {"message": error.message, "field": error.field, "remedy": error.remedy}}
    print(json.dumps(answer))


if __name__ == "__main__":
    end_with_parent()
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")
    main(sys.argv[1])
