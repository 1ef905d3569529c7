"""Correct a trained classifier class by class at inference, by calibrations chosen together.

Each calibration is described in its file of :mod:`lt_det.modeling.calibration`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from lt_det.losses.checks import check_class_counts
from lt_det.modeling.calibration.affine import Affine, Calibration, check_strength
from lt_det.modeling.calibration.fracal import fracal as softmax_fracal
from lt_det.modeling.calibration.fracal import sigmoid_fracal
from lt_det.modeling.calibration.logit_adjustment import logit_adjustment as adjust
from lt_det.modeling.calibration.logn import LogitMoments
from lt_det.modeling.calibration.logn import logn as standardise
from lt_det.modeling.calibration.norcal import NorcalCounts
from lt_det.modeling.calibration.norcal import norcal as divide
from lt_det.modeling.calibration.tau_norm import tau_norm as normalise

#: Class counts ``(K,)`` and the number of images that they are of.
Counts = tuple[Tensor, float]


class PostHocCorrection:
    """Calibrations of the logits that a classifier gives: tau-norm, then at most one other.

    No module: it has no state that belongs into a checkpoint, and weights may change under it.
    What it needs is bound or, once, loaded at the first logits (:meth:`prepare`: earlier).

    Attributes:
        tau_norm: see :func:`lt_det.modeling.calibration.tau_norm.tau_norm`.
        logit_adjustment: tau of :func:`~lt_det.modeling.calibration.logit_adjustment`.
        stage: which of the logit moments are of this classifier: the stage of a cascade, else 0.
    """

    def __init__(
        self,
        *,
        tau_norm: float = 0.0,
        logit_adjustment: float = 0.0,
        norcal: float = 0.0,
        norcal_counts: NorcalCounts = "power",
        fracal: float | None = None,
        moments: Sequence[LogitMoments] | None = None,
        kind: Literal["softmax", "sigmoid"] = "softmax",
        class_counts: Tensor | None = None,
        load_counts: Callable[[], Counts] | None = None,
        load_dimensions: Callable[[], Tensor] | None = None,
    ) -> None:
        """Choose the calibrations; 0 and None leave one out.

        Args:
            tau_norm: in [0, 1] as a rule; 1 makes all weights equally long.
            logit_adjustment: 1 takes out the prior of cross-entropy.
            norcal: gamma; for softmax heads.
            norcal_counts: "power" or "effective".
            fracal: strength of the fractal dimensions, 2 in the paper; 0 still shifts by frequency.
            moments: for LogN; logit moments of each stage, background included if there is one.
            kind: how logits become scores.
            class_counts: ``(K,)`` training frequency of the foreground classes, positive.
            load_counts: called for them and the number of images, if ``class_counts`` was not
                given.
            load_dimensions: called for the ``(K,)`` fractal dimensions.

        Raises:
            ValueError: if a strength is negative, a count is not positive and finite, calibrations
                exclude each other, or one does not go with ``kind``.
        """
        strengths = {"tau_norm": tau_norm, "logit_adjustment": logit_adjustment, "norcal": norcal}
        for name, value in {**strengths, "fracal": fracal or 0.0}.items():
            check_strength(value, name=name)
        chosen = [name for name in ("logit_adjustment", "norcal") if strengths[name]]
        chosen += ["fracal"] * (fracal is not None) + ["logn"] * (moments is not None)
        if len(chosen) > 1:
            raise ValueError(f"{' and '.join(chosen)} correct for the same: choose one")
        if moments is not None and tau_norm:
            raise ValueError(
                "logn has the moments of the logits without tau_norm: choose one of them"
            )
        if norcal and kind == "sigmoid":
            raise ValueError(
                "norcal divides the scores of a softmax, and this loss has sigmoids: take "
                "logit_adjustment, which is the same shift of their odds"
            )
        if norcal:
            divide(torch.ones(1), gamma=norcal, counts=norcal_counts)  # checks both
        elif norcal_counts != "power":
            raise ValueError(
                f"norcal_counts {norcal_counts!r} would do nothing: set norcal, or leave it 'power'"
            )
        self.tau_norm, self.logit_adjustment = tau_norm, logit_adjustment
        self.norcal, self.norcal_counts, self.fracal = norcal, norcal_counts, fracal
        self.kind, self.stage, self._moments = kind, 0, moments
        self._load_counts, self._load_dimensions = load_counts, load_dimensions
        self._counts: Counts | None = None
        self._dimensions: Tensor | None = None
        self._fixed: Calibration | None = None
        if class_counts is not None:
            self.bind(class_counts)

    def bind(
        self,
        class_counts: Tensor,
        *,
        num_images: float | None = None,
        dimensions: Tensor | None = None,
    ) -> None:
        """Set what is known of the training set.

        Args:
            class_counts: ``(K,)`` training frequency of the foreground classes.
            num_images: that the counts are of; for FRACAL.
            dimensions: ``(K,)`` fractal dimensions; None keeps those that are there.

        Raises:
            ValueError: if a count is not positive and finite.
        """
        check_class_counts(class_counts.cpu(), num_columns=class_counts.numel())
        self._counts = class_counts, num_images or float("nan")
        self._dimensions = self._dimensions if dimensions is None else dimensions
        self._fixed = None

    def __call__(self, logits: Tensor, classifier: nn.Module, *, background: bool) -> Tensor:
        """Return ``(R, C)`` corrected logits, float32, or ``logits`` where nothing is to be done.

        Args:
            logits: ``(R, C)``, of ``classifier``.
            classifier: where the weights are.
            background: whether the last column is the background; it is left as it is.

        Raises:
            TypeError: if the classifier has no weights whose norm means anything.
            RuntimeError: if class counts are needed and there are none.
            ValueError: if they are not of as many classes as there are logits.
        """
        parts = self.calibrations(classifier, num_classes=logits.shape[1] - background)
        for calibration in parts:
            logits = calibration(logits, background=background)
        return logits

    def calibrations(self, classifier: nn.Module, *, num_classes: int) -> list[Calibration]:
        """Return the maps of the foreground logits, in order; affine ones as one.

        With one :class:`~lt_det.modeling.calibration.affine.Affine` it can be folded into the
        classifier: :func:`lt_det.modeling.calibration.fold.fold_into_weights`.

        Args:
            classifier: where the weights are.
            num_classes: K.

        Raises:
            TypeError, RuntimeError, ValueError: as :meth:`__call__`.
        """
        first: Calibration | None = None
        if self.tau_norm:
            first = normalise(classifier, num_classes=num_classes, tau=self.tau_norm)
        fixed = self._fixed_part(num_classes)
        if isinstance(first, Affine) and isinstance(fixed, Affine):
            return [first.then(fixed)]
        return [part for part in (first, fixed) if part is not None]

    def prepare(self, *, num_classes: int) -> None:
        """Load all that is needed now, so that an error comes before the first image.

        Raises:
            RuntimeError, ValueError: as :meth:`__call__`, and what the loading raises.
        """
        self._fixed_part(num_classes)

    def _fixed_part(self, num_classes: int) -> Calibration | None:
        """Return the calibration that does not depend on the weights; computed once."""
        if self._fixed is None:
            self._fixed = self._make_fixed(num_classes)
        if self._fixed is not None and self._fixed.num_classes != num_classes:
            raise ValueError(
                f"the correction is of {self._fixed.num_classes} classes and the classifier has "
                f"{num_classes}: it belongs to another model or training set"
            )
        return self._fixed

    def _make_fixed(self, num_classes: int) -> Calibration | None:
        if self._moments is not None:
            return self._standardised(num_classes)
        if not self.logit_adjustment and not self.norcal and self.fracal is None:
            return None
        counts, num_images = self._class_counts()
        if self.logit_adjustment:
            return adjust(counts, tau=self.logit_adjustment)
        if self.fracal is None:
            return divide(counts, gamma=self.norcal, counts=self.norcal_counts)
        if self._dimensions is None:
            if self._load_dimensions is None or not num_images > 0:
                raise RuntimeError(
                    "FRACAL needs the fractal dimensions of the classes and the number of training "
                    "images, and they are not bound: call bind() with both"
                )
            self._dimensions = self._load_dimensions()
        make = sigmoid_fracal if self.kind == "sigmoid" else softmax_fracal
        return make(counts, self._dimensions, num_images=num_images, strength=self.fracal)

    def _standardised(self, num_classes: int) -> Affine:
        moments: Sequence[LogitMoments] = self._moments or ()
        if self.stage >= len(moments) or len(moments[self.stage].mean) < num_classes:
            raise ValueError(
                f"the logit moments are of {[len(m.mean) for m in moments]} columns, and stage "
                f"{self.stage} of the model has {num_classes} classes: collect those of this model"
            )
        mine = moments[self.stage]
        return standardise(mine.mean[:num_classes], mine.variance[:num_classes])

    def _class_counts(self) -> Counts:
        if self._counts is None:
            if self._load_counts is None:
                raise RuntimeError(
                    "logit adjustment, NorCal and FRACAL need class counts and none are bound: "
                    "pass class_counts= to PostHocCorrection, or call bind()"
                )
            counts, num_images = self._load_counts()
            self.bind(counts, num_images=num_images)
        return self._counts  # type: ignore[return-value]

    def __repr__(self) -> str:
        values = ("tau_norm", "logit_adjustment", "norcal", "fracal")
        shown = ", ".join(f"{name}={getattr(self, name)}" for name in values)
        return f"PostHocCorrection({shown}, logn={self._moments is not None})"
