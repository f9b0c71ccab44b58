"""The demo's file: nothing lost, complete by `rig verify`, valid by pynwb, clean by nwbinspector."""

import tempfile
from pathlib import Path

import pynwb
from nwbinspector import Importance, inspect_nwbfile

from benchmarks import CONFIGS, arguments, rig, tell


def main() -> None:
    """Run the demo and judge its file with tools that are not ours."""
    asked = arguments(__doc__, seconds=20.0)
    with tempfile.TemporaryDirectory() as folder:
        session = Path(folder) / "session.nwb"
        run = rig("run", CONFIGS / "simulated_mouse.yaml", "--duration", asked.seconds, "--output", session)
        messages = list(inspect_nwbfile(nwbfile_path=str(session)))
        counts = {level.name: sum(m.importance is level for m in messages) for level in Importance}
        report = {
            "data": "simulated mouse, window and both decoders on",
            "finish_reason": run["finish_reason"],
            "frames_received": {name: stream["received"] for name, stream in run["streams"].items()},
            "frames_lost": {name: stream["lost"] for name, stream in run["streams"].items()},
            "verify_complete": rig("verify", session)["complete"],
            "pynwb_validate_errors": [str(error) for error in pynwb.validate(path=str(session))],
            "nwbinspector": counts,
            "megabytes": round(session.stat().st_size / 1e6, 1),
        }
    tell(asked, report)


if __name__ == "__main__":
    main()
