"""Parameters of the simulated visual cortex: neurons, microscope and responses, with their sources. Light to import."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class VisualParameters:
    """Neurons and microscope. "Chosen" marks a value without a source, of the usual size.

    Distributions of receptive fields are of mouse V1, Niell & Stryker 2008, J Neurosci 28:7520
    ("NS08").
    """

    deg_per_px: float = 2.0  # a 55 cm screen at 15 cm spans 123 deg, over 64 px (Sensorium 2023)
    frequency_median_cpd: float = 0.036  # preferred spatial frequency, log-normal (NS08)
    frequency_log_sd: float = 0.6  # most lie between 0.015 and 0.1 cycles/deg (NS08)
    # Gaussian sd in cycles across and along the grating (NS08)
    cycles_median: tuple[float, float] = (0.28, 0.32)
    cycles_log_sd: float = 0.2  # chosen
    scatter_deg: float = 6.0  # local scatter of retinotopy (Bonin 2011, J Neurosci 31:18506)
    latency_s: tuple[float, float] = (0.05, 0.015)  # mean, sd; V1 answers after 50 ms or so (NS08)
    # median, log sd of gamma time constant: peaks 2 Hz or so (NS08)
    kernel_s: tuple[float, float] = (0.035, 0.3)
    # chosen: second lobe relative to the first, sustained to transient
    biphasic: tuple[float, float] = (0.2, 0.9)
    # beta: a minority is direction selective (NS08)
    direction_shape: tuple[float, float] = (0.8, 1.6)
    # beta: share of energy in the drive; simple cells are the majority in layer 2/3 (NS08)
    complex_shape: tuple[float, float] = (0.7, 1.3)
    surround: float = 2.0  # chosen: width of the normalisation pool relative to the field
    # rms contrast that halves the gain of the normalisation (NS08, contrast tuning)
    half_contrast: float = 0.15
    exponent: float = 2.0  # rates grow as a power of the drive (Finn 2007, Neuron 54:137, cat)
    # log-normal, for a drive of 1, which a grating at full contrast comes near, as temporal kernels
    # pass at most 0.6 or so: 15 Hz to the best grating, NS08 report 5 to 30 Hz
    peak_median_hz: float = 40.0
    peak_log_sd: float = 0.6  # chosen
    ceiling_hz: float = 60.0  # chosen: no rate exceeds it
    rest_median_hz: float = 0.3  # spontaneous rate in layer 2/3 (NS08)
    rest_log_sd: float = 0.8  # chosen
    # mean, sd of added gain (Niell & Stryker 2010, Neuron 65:472)
    running_gain: tuple[float, float] = (0.6, 0.4)
    running_gain_s: float = 0.3  # chosen: how quickly it comes and goes
    # log gain shared by neurons (Goris 2014, Nat Neurosci 17:858)
    shared_sd: tuple[float, ...] = (0.25, 0.15, 0.15)
    shared_s: tuple[float, ...] = (0.4, 1.0, 5.0)  # chosen

    # GCaMP6s, one spike, time to peak (Chen 2013, Nature 499:295, supplementary table 3)
    rise_s: float = 0.179
    half_decay_s: float = 0.550  # same
    peak_dff: float = 0.23  # same: largest dF/F after one spike
    ceiling_dff: float = 15.0  # chosen: somata in vivo rarely exceed 10
    peak_log_sd_dff: float = 0.4  # chosen: expression and depth differ between neurons

    # chosen: 0.4 mm field at 128 px; magnification is exaggerated so that it sees the screen
    um_per_px: float = 3.0
    soma_um: float = 14.0  # diameter of a layer 2/3 pyramidal cell and its blur
    nucleus_dim: float = 0.4  # chosen: GCaMP stays out of the nucleus
    soma_photons: float = 60.0  # chosen: per pixel and frame at rest, median
    soma_log_sd: float = 0.4  # chosen
    neuropil_photons: float = 25.0  # chosen: usual contamination
    neuropil_share: float = 0.5  # chosen: part of neuropil light that follows nearby neurons
    neuropil_patches: int = 4  # chosen: per side; neuropil is correlated over 100 um
    counts_per_photon: float = 20.0  # chosen
    read_noise_counts: float = 15.0  # chosen: amplifier
    offset_counts: float = 200.0  # chosen
    motion_px: float = 0.25  # chosen: sd, rigid
    motion_s: float = 0.15  # chosen
    running_motion_px: float = 0.5  # chosen: displacement while running


@dataclass(frozen=True, slots=True)
class ResponseParameters:
    """From rates to deconvolved responses. "Chosen" marks a value without a source, of the usual size."""

    # chosen: share of the screen (height, width) over which the map of one field of view is spread, before the
    # scatter of single neurons, so that all of a movie can be judged; at 20 um a degree (V1 has 4 mm2 for a
    # hemifield, PMC5716341) 0.63 mm see 31 degrees, 0.46 and 0.26 of the screen
    screen_share: tuple[float, float] = (0.8, 0.8)
    field_um: float = 630.0  # side of the field of view (Turishcheva 2023; from memory)
    depth_um: tuple[float, float] = (200.0, 400.0)  # chosen: layer 2/3 to 4; nothing else depends on it
    # volume rate of the mesoscope, resampled to 30 Hz (Turishcheva 2023: 8 Hz; from memory)
    imaging_hz: float = 8.0
    # sd of noise in dF/F of one sample, median over neurons: the one value that is calibrated, so that a response
    # correlates with its noise-free self by 0.39 or so (docs/simulation.md)
    noise_dff: float = 0.13
    noise_log_sd: float = 0.4  # chosen: expression and depth differ
    # mean, sd of log gain for one sd of pupil diameter: visual gain grows with arousal short of running, by a
    # tenth to a fifth (Reimer 2014, Neuron 84:355; from memory)
    pupil_gain: tuple[float, float] = (0.12, 0.10)
    pupil_px_per_mm: float = 40.0  # chosen: eye camera
    pupil_centre_px: tuple[float, float] = (160.0, 120.0)  # chosen: eye in the middle of 320 x 240
    # chosen: responses are in arbitrary units; this brings their sd near 10, the range that the published readout
    # (softplus of beta 0.07) is made for
    units_per_dff: float = 100.0
