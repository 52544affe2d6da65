"""What a worker must have to run a job: a device, and labels. Loads without torch.

A job holds its selector as canonical JSON, so that the queue can tell at a glance which jobs wait for the same workers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from autokv.hardware.documents import DataSheet
from autokv.hardware.profile import HardwareProfile


@dataclass(frozen=True)
class Device:
    """A device, by its fingerprint or by what drivers call it."""

    fingerprint: str
    names: tuple[str, ...]
    """Sorted."""

    @staticmethod
    def of(profile: HardwareProfile, sheet: DataSheet | None = None) -> Device:
        """The device of ``profile``; the catalog's ``sheet`` knows more names of it."""
        names = {profile.name, *(() if sheet is None else sheet.reported_names)}
        return Device(profile.fingerprint, tuple(sorted(names)))

    def is_one(self, fingerprint: str, name: str) -> bool:
        """Whether a device with this fingerprint and name is such a device."""
        return fingerprint == self.fingerprint or name in self.names


@dataclass(frozen=True)
class Selector:
    """``device`` None is any device; a worker may have more labels than ``labels``."""

    device: Device | None = None
    labels: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """Canonical: equal selectors are equal texts."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @staticmethod
    def parse(text: str) -> Selector:
        """The inverse of :meth:`to_json`."""
        document = json.loads(text)
        found = document["device"]
        device = None if found is None else Device(found["fingerprint"], tuple(found["names"]))
        return Selector(device, document["labels"])

    def fits(self, fingerprint: str, name: str, labels: Mapping[str, str]) -> bool:
        """Whether a worker whose device has this fingerprint and name, and that has these labels, may run the job."""
        here = self.device is None or self.device.is_one(fingerprint, name)
        return here and self.labels.items() <= labels.items()
