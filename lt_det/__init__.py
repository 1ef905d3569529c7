"""Long-tailed detection and instance segmentation for Detectron2."""

from lt_det.version import __version__

__all__ = ["__version__"]
