"""What NWB wants beside the activity of regions of interest: which pixels they are, in which imaging plane."""

import numpy as np
from pynwb import NWBFile, ProcessingModule
from pynwb.core import DynamicTableRegion, VectorData, VectorIndex
from pynwb.ophys import DfOverF, Fluorescence, ImageSegmentation, PlaneSegmentation

from rig import registry
from rig.description import SessionDescription
from rig.errors import DataError
from rig.messages import PredictionStream
from rig.rois import RoiMasks

_SEGMENTATION = "ImageSegmentation"  # NWB's own name, by which its tools find it
_CONTAINERS = {"DfOverF": DfOverF, "Fluorescence": Fluorescence}
_PIXEL = np.dtype([("x", np.uint32), ("y", np.uint32), ("weight", np.float32)])


def load_roi_masks(session: SessionDescription) -> dict[str, RoiMasks]:
    """Read the regions of every decoder whose values are one for each; the decoder's class knows how.

    Raises
    ------
    DataError
        When they cannot be read, or are not as many as the decoder has described.
    """
    masks = {}
    for stream in session.predictions:
        if stream.per_roi:
            config = session.config.decoders[stream.name]
            found: RoiMasks = registry.load(registry.DECODERS, config.decoder).roi_masks(config)
            if (found.count,) != stream.shape:
                loaded = f"{stream.shape[0]} when it was loaded; valid is the same file"
                raise DataError(f"{stream.name}: {found.count} ROIs are in its file now, {loaded}")
            masks[stream.name] = found
    return masks


def add_segmentation(
    nwb: NWBFile, module: ProcessingModule, stream: PredictionStream, masks: RoiMasks
) -> DynamicTableRegion:
    """Store the regions of a decoder; return the reference to all of them that its series needs."""
    if _SEGMENTATION not in module.data_interfaces:
        module.add(ImageSegmentation(name=_SEGMENTATION))
    pixels = VectorData(
        name="pixel_mask", description="Pixels of each ROI and their weights", data=_pixels(masks)
    )
    ends = np.searchsorted(masks.roi, np.arange(masks.count), side="right").astype(np.uint64)
    plane = PlaneSegmentation(
        name=f"{stream.name}_rois",
        description=f"Regions of interest of {stream.name}, in frames of {masks.height_px} x {masks.width_px} pixels",
        imaging_plane=nwb.imaging_planes[f"{stream.source}_plane"],
        id=np.arange(masks.count),
        columns=[pixels, VectorIndex(name="pixel_mask_index", target=pixels, data=ends)],
    )
    module[_SEGMENTATION].add_plane_segmentation(plane)
    return plane.create_roi_table_region(
        description=f"All ROIs of {stream.name}, in order", region=list(range(masks.count))
    )


def responses_container(module: ProcessingModule, path: str) -> DfOverF | Fluorescence:
    """NWB's container in which a series of this path lies."""
    name = path.split("/")[3]
    if name not in module.data_interfaces:
        module.add(_CONTAINERS[name](name=name))
    return module[name]


def _pixels(masks: RoiMasks) -> np.ndarray[tuple[int], np.dtype[np.void]]:
    pixels = np.empty(len(masks.pixel), _PIXEL)
    pixels["y"], pixels["x"] = np.divmod(masks.pixel, masks.width_px)
    pixels["weight"] = masks.weight
    return pixels
