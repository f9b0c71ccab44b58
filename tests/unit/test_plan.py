from pathlib import Path

import pytest
import yaml

from rig.acquisition import plan as planning
from rig.acquisition.plan import plan
from rig.config import parse_config
from tests.unit.session_example import YAML


def test_the_disk_is_that_of_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    asked, disk_usage = [], planning.shutil.disk_usage
    monkeypatch.setattr(
        planning.shutil, "disk_usage", lambda folder: asked.append(folder) or disk_usage(folder)
    )
    content = yaml.safe_load(YAML % "")
    content["recording"]["directory"] = "~/sessions"
    plan(parse_config(yaml.safe_dump(content), "rig.yaml"))
    assert asked == [tmp_path]
