"""Patch existing models, of any project, with another training loss."""

from lt_det.modeling.patching.loss import create_loss
from lt_det.modeling.patching.patch import patch, unpatch

__all__ = ["create_loss", "patch", "unpatch"]
