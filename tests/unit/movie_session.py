"""A two-photon rig that shows movies, small and quick: a few seconds of it are a session."""

from rig.config import load_config
from tests.rig_command import ROOT

SECONDS, CLIP_FRAMES, NEURONS = 10.5, 60, 20
ENCODER = ROOT / "docs" / "training" / "encoder.yaml"


def small_rig(left_out=()):
    rig = load_config(ENCODER)
    camera = rig.cameras["two_photon"].model_copy(update={"height_px": 40, "width_px": 40})
    stimulus = rig.stimulus
    movie = stimulus.movie.model_copy(update={"clips": 3, "frames": CLIP_FRAMES})
    return rig.model_copy(
        update={
            "cameras": {"two_photon": camera},
            "serial": {name: source for name, source in rig.serial.items() if name not in left_out},
            "running": None if "treadmill" in left_out else rig.running,
            "stimulus": stimulus.model_copy(update={"movie": movie}),
            "simulation": rig.simulation.model_copy(update={"neurons": NEURONS}),
        }
    )
