"""A coarse outline of the mouse's dorsal cortical areas and the skull's landmarks, in mm from bregma.

Owns where areas lie on the skull, nothing of where they lie in a picture or what they do. An ellipse an area: enough
to name what a pixel belongs to within about half a millimetre where no atlas file is at hand.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CorticalArea:
    """An area of one hemisphere as an ellipse, mm: ML from the midline, AP from bregma to the front."""

    name: str
    ml_mm: float
    ap_mm: float
    half_ml_mm: float
    half_ap_mm: float


# Centres: Allen atlas as tabulated for widefield imaging by Haupt et al. 2017 (Mesoscale Brain
# Explorer, Neurophotonics 4:031210), rounded to 0.05 mm; they agree with Franklin & Paxinos within
# their differences between animals. Half extents: approximate, by eye, of the Allen CCF v3 seen
# from above (Wang et al. 2020, Cell 181:936).
AREAS: tuple[CorticalArea, ...] = (
    #            name   ML    AP     half ML, AP
    CorticalArea("M2", 0.85, 1.40, 0.50, 1.10),
    CorticalArea("M1", 1.85, 0.65, 0.70, 1.00),
    CorticalArea("AC", 0.20, 1.85, 0.20, 0.60),
    CorticalArea("MO", 3.50, 0.60, 0.55, 0.60),
    CorticalArea("NO", 3.80, -0.50, 0.45, 0.45),
    CorticalArea("FL", 2.45, -0.55, 0.45, 0.50),
    CorticalArea("HL", 1.70, -1.15, 0.40, 0.45),
    CorticalArea("UN", 2.80, -0.95, 0.25, 0.30),
    CorticalArea("TR", 1.85, -2.00, 0.40, 0.30),
    CorticalArea("BC", 3.45, -1.75, 0.65, 0.75),
    CorticalArea("S2", 4.40, -1.20, 0.35, 0.70),
    CorticalArea("RS", 0.60, -2.90, 0.40, 1.30),
    CorticalArea("A", 2.30, -2.50, 0.35, 0.25),
    CorticalArea("AM", 1.65, -2.70, 0.30, 0.30),
    CorticalArea("RL", 3.15, -2.85, 0.35, 0.30),
    CorticalArea("AL", 3.85, -3.35, 0.30, 0.30),
    CorticalArea("PM", 1.60, -3.60, 0.30, 0.45),
    CorticalArea("V1", 2.50, -4.25, 0.80, 0.80),
    CorticalArea("L", 3.70, -4.25, 0.35, 0.45),
    CorticalArea("LI", 4.05, -4.25, 0.20, 0.35),
    CorticalArea("POR", 4.20, -4.75, 0.30, 0.35),
    CorticalArea("PL", 3.50, -5.20, 0.35, 0.25),
    CorticalArea("AU", 4.55, -2.90, 0.30, 0.70),
    CorticalArea("TEA", 4.55, -4.15, 0.25, 0.60),
)

LANDMARKS_MM: dict[str, tuple[float, float]] = {
    "bregma": (0.0, 0.0),
    # Franklin & Paxinos, The Mouse Brain in Stereotaxic Coordinates: 4.2 mm behind bregma
    "lambda": (0.0, -4.2),
    # middle of the line between olfactory bulbs and cortex: OB_center of wfield's table of
    # landmarks (dorsal_cortex_landmarks.json), whose y grows towards the back
    "olfactory_centre": (0.0, 3.45),
}
"""Landmarks that are seen through a cleared skull, as (ML, AP) in mm from bregma."""
