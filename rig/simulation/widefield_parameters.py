"""Numbers of the simulated widefield microscope, each with its unit and where it comes from.

Three kinds of comment. A source: a published number, "checked" where the text was read while this was written, "not
checked" where it is cited from memory. "Calibrated": found once by `benchmarks/simulator_calibration.py`, which
matches decoders of area traces to the published ones and knows no decoder of images. "Chosen": no source.
"""

from dataclasses import dataclass

# The groups of ROIs whose decoders Ajioka et al. 2024 tabulate (stored outputs of their notebooks), as
# areas of `rig.dorsal_cortex`; the last two groups are not in their table.
AREA_GROUPS: dict[str, tuple[str, ...]] = {
    "limbs": ("FL", "HL"),
    "motor": ("M1", "M2"),
    "parietal": ("RS", "A"),
    "medial_visual": ("V1", "PM", "AM"),
    "lateral_visual": ("AL", "L", "LI", "RL", "AU"),
    "other_somatosensory": ("UN", "TR", "BC", "S2", "MO", "NO"),
    "other": ("AC", "POR", "PL", "TEA"),
}

# Strength of movement relative to the limb areas. The first five are calibrated; chosen: the other
# somatosensory areas half way between motor and parietal cortex, the rest as parietal cortex.
GROUP_MOVEMENT: dict[str, float] = {
    "limbs": 1.0,
    "motor": 0.292,
    "parietal": 0.157,
    "medial_visual": 0.214,
    "lateral_visual": 0.054,
    "other_somatosensory": 0.225,
    "other": 0.157,
}
# Locomotion suppresses auditory cortex (Schneider 2014, Nature 513:189, not checked).
SUPPRESSED = ("AU",)

# Lag behind movement in seconds: chosen; M2 before it, limbs with it, vision after it.
LAG_S: dict[str, float] = {
    "M2": -0.15,
    "M1": -0.05,
    "AC": -0.10,
    "MO": 0.05,
    "NO": 0.05,
    "FL": 0.0,
    "HL": 0.02,
    "UN": 0.04,
    "TR": 0.05,
    "BC": 0.06,
    "S2": 0.08,
    "RS": 0.15,
    "A": 0.12,
    "AM": 0.15,
    "RL": 0.15,
    "AL": 0.18,
    "PM": 0.18,
    "V1": 0.20,
    "L": 0.20,
    "LI": 0.20,
    "POR": 0.22,
    "PL": 0.22,
    "AU": 0.10,
    "TEA": 0.20,
}


@dataclass(frozen=True, slots=True)
class WidefieldParameters:
    """Microscope, indicator, brain and blood; fractions are of the light at rest."""

    field_mm: float = 11.0  # chosen: both hemispheres across the width, as in Ajioka 2024
    centre_ap_mm: float = -1.6  # chosen: middle of the areas
    rotation_sd_deg: float = 4.0  # chosen: head bars are mounted by hand, as the next two
    placement_sd_mm: float = 0.25
    scale_log_sd: float = 0.03
    expression_log_sd: float = 0.15  # chosen: unevenness of expression between areas
    response_log_sd: float = 0.2  # chosen: how much mice differ in each area's response
    # Light of superficial layers spreads little; that of deep ones over 3 to 4 mm of surface (Waters
    # 2020, eLife 9:e59841, checked), which is a Gaussian of sd 0.8 mm. Chosen: the narrow sd and the share.
    scatter_mm: float = 0.12
    deep_mm: float = 0.8
    deep_share: float = 0.3

    # GCaMP6f: the published mice are Emx1-G-CaMP6, which of the two not checked. Its time to peak and
    # half decay after one spike: Chen 2013, Nature 499:295, supplementary table 3, not checked; the main
    # text gives 50 to 75 ms as its rise (checked).
    rise_s: float = 0.045
    half_decay_s: float = 0.142
    # Limb areas at the usual speed. Chosen: "several per cent"; only its ratio to the activity below counts,
    # and that is calibrated.
    movement_dff: float = 0.065
    groups: tuple[tuple[str, float], ...] = tuple(GROUP_MOVEMENT.items())
    onset_share: float = 0.5  # chosen: transient at the start of a run, relative to the sustained part
    onset_s: float = 1.0  # chosen
    speed_share: float = 0.4  # chosen: part of the sustained response that follows speed
    # Uninstructed movements dominate cortex-wide activity (Musall 2019, Nat Neurosci 22:1677, checked):
    # movements short of running drive cortex too. Chosen: how much, and the speed that counts fully.
    fidget_share: float = 0.35
    fidget_mm_s: float = 2.0
    movement_variation: float = 0.25  # chosen: slow change of each area's response, sd of its factor
    movement_variation_s: float = 20.0  # chosen

    # sd of each network, the first cortex-wide, and of activity outside networks. Calibrated: one factor on
    # all amplitudes; chosen: the ratios between them. Spontaneous activity has a mode below 1 Hz and one
    # near 3 Hz (Vanni 2017, J Neurosci 37:7513, abstract checked): correlation times that reach both.
    spontaneous_dff: tuple[float, ...] = (0.0046, 0.0032, 0.0027, 0.0024, 0.0020, 0.0020)
    spontaneous_s: tuple[float, ...] = (0.6, 0.4, 0.8, 1.5, 0.3, 0.05)
    network_width_mm: float = 1.6  # chosen: broad, several areas each
    private_dff: float = 0.0029  # chosen: activity of one area alone
    private_s: float = 0.15  # chosen
    waves: int = 8  # chosen: patterns that ignore area borders
    wave_dff: float = 0.0020  # chosen
    wave_mm: float = 0.8  # chosen
    wave_s: float = 0.25  # chosen

    # Absorption by blood is in many instances as large as the indicator's signal, and uneven over cortex
    # (Yogesh 2025, eLife 104914, abstract checked). Locomotion adds blood in the limb areas and none in
    # frontal cortex (Huo 2014, J Neurosci 34:10975, abstract checked). Chosen: the share that follows local
    # activity, locomotion's own part over the limb areas, and its least part anywhere. Twice that part
    # cannot be had together with the published decoders of ROIs: it hides the limb areas.
    blood_lag_s: float = 1.0  # Ma 2016, Phil Trans B 371:20150360, not checked
    blood_order: int = 3  # chosen: gamma kernel
    blood_share: float = 0.3
    blood_running: float = 0.006
    blood_elsewhere: float = 0.2
    blood_log_sd: float = 0.3  # chosen: unevenness between areas
    # Blood volume also fluctuates without neural cause (Winder 2017, Nat Neurosci 20:1761, abstract
    # checked). Chosen: sd and correlation time, those of vasomotion near 0.1 Hz.
    vasomotion: float = 0.004
    vasomotion_s: float = 1.5
    vessel_contrast: float = 0.35  # chosen: how dark a large vessel is
    vessel_gain: float = 2.0  # chosen: blood signal over vessels relative to parenchyma
    heart_hz: float = 10.2  # awake mouse, 600 beats a minute, not checked; aliased by the camera as in life
    # head-fixed mice at rest and running (Cazakoff 2014, Nat Neurosci 17:569, supplementary figure 5, checked)
    breath_hz: tuple[float, float] = (2.69, 3.68)
    pulse_fraction: float = 0.002  # chosen: sd of each in vessels
    motion_px: float = 0.12  # chosen: sd of slow brain motion
    motion_s: float = 0.3  # chosen
    running_motion_px: float = 0.08  # chosen: small, else the brain's edge alone would tell running
    bleach_fraction: float = 0.10  # chosen: lost in the end
    bleach_s: float = 2400.0  # chosen
    # Slow change of the light: as much in common over the field (lamp, focus) as of each area's own (fluid
    # and bone over it). Calibrated: sd of each; the published ROI decoder loses 0.06 of AUC on traces that
    # are not detrended. Chosen: that both are alike, and the correlation time.
    drift: float = 0.018
    drift_s: float = 60.0

    full_electrons: float = 24000.0  # chosen: brightest pixel after binning, so shot noise is 0.65 %
    counts_per_electron: float = 1.0  # chosen
    # 1.6 e per pixel of a Hamamatsu ORCA-Flash4.0, 4 x 4 binned, and its offset; not checked
    read_noise_electrons: float = 6.4
    offset_counts: float = 100.0


def movement_strengths(parameters: WidefieldParameters) -> dict[str, float]:
    """Movement's strength in each area, by name, relative to the limb areas; negative: suppressed."""
    return {
        name: -strength if name in SUPPRESSED else strength
        for group, strength in parameters.groups
        for name in AREA_GROUPS[group]
    }
