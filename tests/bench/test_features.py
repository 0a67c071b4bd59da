"""What features cost is measured on set-ups that Waypost accepts, with everything arriving that was sent."""

import json
import shutil
from pathlib import Path

import pytest
from bench.features import FEATURES, Costs, Featured, render
from bench.systems.base import Place

from waypost.config.load import load


@pytest.mark.parametrize("name", FEATURES)
def test_every_set_up_is_a_good_configuration(name: str, tmp_path: Path) -> None:
    feature = FEATURES[name]
    for setup in (feature.setup, feature.base):
        path = tmp_path / f"{setup.name}.yaml"
        place = Place(tmp_path, 2525, {"primary": 2526}, 2527)
        path.write_text(json.dumps(Featured(setup).configuration(place)))
        load(str(path), {})


@pytest.mark.parametrize(
    "name",
    ["nothing", "auth-cached", "tls-in-kept", "tls-out", "proxy", *(name for name in FEATURES if "plugin" in name)],
)
def test_a_set_up_carries_its_load(name: str, tmp_path: Path) -> None:
    setup = FEATURES[name].setup
    if setup.client is None and not shutil.which("smtp-source"):
        pytest.skip("smtp-source is not installed")
    assert Costs(tmp_path, 20).measure(setup) > 0  # raises unless each message arrived, once


def test_the_report_says_what_a_feature_is_held_against() -> None:
    text = render({"quota": [(500.0, 50.0), (400.0, 44.0), (600.0, 61.0)]}, ["About"])
    assert "| two quotas | pass, with a spool and so a journal | 500 | +50 (+44 to +61) | +10.0% |" in text
