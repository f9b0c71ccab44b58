"""What a wrong YAML gets: file, line, key, value, and what would be valid."""

import re
from pathlib import Path

import pytest
import yaml

from rig.config import json_schema, load_config, parse_config
from rig.errors import ConfigError

CONFIGS = Path(__file__).parents[2] / "hardware_configs"
GOOD = (CONFIGS / "simulated_mouse.yaml").read_text(encoding="utf-8")


def test_a_good_file_survives_a_round_trip() -> None:
    config = parse_config(GOOD, "good")
    again = parse_config(config.as_json(), "again")
    assert again == config
    assert again.digest() == config.digest()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("schema_version: 1", "schema_version: 2", "schema_version: Input should be 1 (found 2)"),
        (
            "driver: treadmill",
            "driver: tredmill",
            "serial.treadmill.driver: missing or unknown; valid: pupil",
        ),
        (
            "driver: treadmill",
            "driver: micromanager",
            "serial.treadmill.driver: missing or unknown; valid: pupil",
        ),
        ("rate_hz: 100", "rate_hz: fast", "serial.treadmill.rate_hz: Input should be a valid number"),
        (
            "rate_hz: 100",
            "rate_hz: -1",
            "serial.treadmill.rate_hz: Input should be greater than or equal to 0",
        ),
        (
            "rate_hz: 100",
            "rate_hz: .inf",
            "serial.treadmill.rate_hz: Input should be a finite number (found inf)",
        ),
        ("rate_hz: 30", "rate_hz: 1.0e-9", "Input should be greater than or equal to 0.01 (found 1e-09)"),
        (
            "    camera: widefield",
            "    camera: widefeld",
            "decoders.behavior.camera names 'widefeld'; valid: two",
        ),
        ("    output: laser", "    output: lamp", "closed_loop[0].output names 'lamp'; valid: laser"),
        ("threshold_on: 0.7", "threshold_on: 0.1", "threshold_off 0.4 is above threshold_on 0.1"),
        (
            "wheel_diameter_mm",
            "wheel_diametre_mm",
            "unknown key; did you mean wheel_diameter_mm? valid here: ",
        ),
        ("columns: [ticks, count]", "columns: [count]", "valid is ticks once"),
        ("rig: simulated_mouse", "rig: Simulated mouse", "String should match pattern"),
    ],
)
def test_one_line_with_what_would_be_valid(old: str, new: str, said: str) -> None:
    assert old in GOOD
    with pytest.raises(ConfigError) as caught:
        parse_config(GOOD.replace(old, new, 1), "rig.yaml")
    message = str(caught.value)
    assert said in message
    assert message.startswith("rig.yaml:")


def test_a_second_camera_of_micromanager_is_refused_before_it_is_opened() -> None:
    content = yaml.safe_load((CONFIGS / "micromanager_demo.yaml").read_text(encoding="utf-8"))
    content["cameras"]["second"] = content["cameras"]["demo_camera"]
    with pytest.raises(
        ConfigError, match="demo_camera and second have driver micromanager; valid is one such"
    ):
        parse_config(yaml.safe_dump(content), "rig.yaml")


@pytest.mark.parametrize("cameras", [{}, None])
def test_a_rig_without_a_camera_is_refused_in_one_line(cameras: object) -> None:
    content = {**yaml.safe_load(GOOD), "cameras": cameras, "decoders": {}, "closed_loop": []}
    with pytest.raises(ConfigError) as caught:
        parse_config(yaml.safe_dump(content), "rig.yaml")
    assert re.match(r"rig\.yaml:\d+: cameras: valid is at least one camera: ", str(caught.value))
    assert "\n" not in str(caught.value)


def test_the_line_is_that_of_the_key() -> None:
    bad = GOOD.replace("wheel_diameter_mm", "wheel_diametre_mm", 1)
    line = next(k for k, text in enumerate(bad.splitlines(), 1) if "wheel_diametre_mm" in text)
    with pytest.raises(ConfigError) as caught:
        parse_config(bad, "rig.yaml")
    assert f"rig.yaml:{line}: serial.treadmill.wheel_diametre_mm: unknown key" in str(caught.value)


@pytest.mark.parametrize("text", ["", "- 1\n- 2\n", "a: [1,\n", "rig: {a: 1"])
def test_what_is_no_mapping(text: str) -> None:
    with pytest.raises(ConfigError, match=r"rig\.yaml"):
        parse_config(text, "rig.yaml")


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path / "none.yaml")


def test_the_schema_knows_every_driver() -> None:
    text = str(json_schema())
    for tag in (
        "micromanager",
        "treadmill",
        "pupil",
        "serial_output",
        "simulated_widefield",
        "causal",
        "linear",
    ):
        assert f"'const': '{tag}'" in text
