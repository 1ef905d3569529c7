"""Calibrations: class-wise maps of the logits of a trained classifier, without training.

Each is made by a function from facts about the training set or the weights::

    tau_norm(classifier, num_classes=K, tau=0.5)             # Affine
    logit_adjustment(class_counts, tau=1.0)                  # Affine
    norcal(class_counts, gamma=0.6)                          # Affine
    fracal(class_counts, dimensions, num_images=N)           # Affine, softmax
    sigmoid_fracal(class_counts, dimensions, num_images=N)   # ProductOfSigmoids
    logn(mean, variance)                                     # Affine

and is called with logits. :class:`~lt_det.modeling.calibration.affine.Affine` ones can be folded
into the weights: :mod:`lt_det.modeling.calibration.fold`.
"""

from lt_det.modeling.calibration.affine import Affine, Calibration
from lt_det.modeling.calibration.fold import fold_into_weights, folded_parameters
from lt_det.modeling.calibration.fracal import ProductOfSigmoids, fracal, sigmoid_fracal
from lt_det.modeling.calibration.logit_adjustment import logit_adjustment
from lt_det.modeling.calibration.logn import LogitMoments, logn
from lt_det.modeling.calibration.norcal import norcal
from lt_det.modeling.calibration.tau_norm import tau_norm

__all__ = [
    "Affine",
    "Calibration",
    "LogitMoments",
    "ProductOfSigmoids",
    "fold_into_weights",
    "folded_parameters",
    "fracal",
    "logit_adjustment",
    "logn",
    "norcal",
    "sigmoid_fracal",
    "tau_norm",
]
