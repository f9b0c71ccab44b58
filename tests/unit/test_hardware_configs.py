"""The rigs that are shipped: every file is valid, and the embedded default is the one in the folder."""

from pathlib import Path

import pytest

from rig.config import load_config

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "hardware_configs").glob("*.yaml"))


def test_the_four_rigs_are_there() -> None:
    assert [path.stem for path in FILES] == [
        "micromanager_demo",
        "simulated_mouse",
        "two_photon_v1",
        "widefield_treadmill",
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_shipped_rig_is_valid_and_names_its_schema(path: Path) -> None:
    assert load_config(path).rig == path.stem
    assert path.read_text().splitlines()[0] == "# yaml-language-server: $schema=schema.json"


def test_the_embedded_rig_is_the_shipped_one() -> None:
    embedded = ROOT / "rig" / "simulated_mouse.yaml"
    assert embedded.read_bytes() == (ROOT / "hardware_configs" / "simulated_mouse.yaml").read_bytes()


@pytest.mark.parametrize("name", ["two_photon_v1", "widefield_treadmill"])
def test_templates_say_what_a_lab_must_change(name: str) -> None:
    text = (ROOT / "hardware_configs" / f"{name}.yaml").read_text()
    assert "has not been run on hardware" in text
    assert text.count("CHANGE") > 20
