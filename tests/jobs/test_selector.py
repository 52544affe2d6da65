"""Which worker may run which job."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from autokv.hardware.catalog import sheets
from autokv.jobs.selector import Device, Selector

H100 = sheets()["h100-sxm"]
names = st.text(min_size=1, max_size=8)
labels = st.dictionaries(names, names, max_size=4)
devices = st.builds(Device, names, st.lists(names, max_size=3, unique=True).map(lambda found: tuple(sorted(found))))
selectors = st.builds(Selector, st.none() | devices, labels)


@given(selectors)
def test_a_selector_survives_its_text(selector: Selector) -> None:
    assert Selector.parse(selector.to_json()) == selector


@given(labels)
def test_the_text_does_not_depend_on_the_order_of_labels(found: dict[str, str]) -> None:
    turned = dict(reversed(found.items()))
    assert Selector(None, found).to_json() == Selector(None, turned).to_json()


@given(labels, labels)
def test_a_worker_needs_every_label_and_may_have_more(wanted: dict[str, str], more: dict[str, str]) -> None:
    selector = Selector(None, wanted)
    assert selector.fits("any", "device", {**more, **wanted})
    for name, value in wanted.items():
        assert not selector.fits("any", "device", {**wanted, name: f"{value}!"})
        assert not selector.fits("any", "device", {key: wanted[key] for key in wanted if key != name})


def test_a_device_of_the_catalog_is_known_by_what_its_driver_calls_it() -> None:
    selector = Selector(Device.of(H100.profile(), H100))
    measured = replace(H100.profile(), name="NVIDIA H100 80GB HBM3", source="measured")
    assert measured.fingerprint != H100.profile().fingerprint
    assert selector.fits(measured.fingerprint, measured.name, {})
    assert not selector.fits("0" * 16, "NVIDIA L4", {})


def test_a_measured_device_is_known_by_its_fingerprint() -> None:
    profile = H100.profile()
    assert Selector(Device.of(profile)).fits(profile.fingerprint, "renamed", {"zone": "a"})
