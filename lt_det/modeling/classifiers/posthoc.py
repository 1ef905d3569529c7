"""Correct a trained classifier class by class at inference.

Both are an affine map of the logits, class by class:

* tau-normalisation, Kang et al., arXiv:1910.09217, section 4.3: weights ``w_k / |w_k|^tau``;
* logit adjustment, Menon et al., arXiv:2007.07314, section 4.2: ``z_k - tau log pi_k``.

What would be the same for all foreground classes is left out of both: weights keep their mean
norm, biases their mean, and pi is relative to the uniform prior. No prediction among foreground
classes depends on that. But the background of a box head, whose logit is left as it is, then keeps
its odds against the foreground, and the scores of a sigmoid head stay where its threshold is.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lt_det.losses.checks import check_class_counts
from lt_det.modeling.classifiers.layers import linear_parameters


class PostHocCorrection:
    """Tau-normalisation and logit adjustment of the logits that a classifier gives.

    No module: it has no state that belongs into a checkpoint, and weights may change under it.

    Attributes:
        tau_norm: see :func:`tau_normalised`.
        logit_adjustment: tau of :func:`prior_adjusted`.
    """

    def __init__(
        self,
        *,
        tau_norm: float = 0.0,
        logit_adjustment: float = 0.0,
        class_counts: Tensor | None = None,
        load_counts: Callable[[], Tensor] | None = None,
    ) -> None:
        """Choose the corrections; 0 leaves one out.

        Args:
            tau_norm: in [0, 1] as a rule; 1 makes all weights equally long.
            logit_adjustment: 1 takes out the prior of cross-entropy.
            class_counts: ``(K,)`` training frequency of the foreground classes, positive.
            load_counts: called for them at the first logits, if ``class_counts`` was not given.

        Raises:
            ValueError: if a tau is negative, or a count is not positive and finite.
        """
        for key, value in (("TAU_NORM", tau_norm), ("LOGIT_ADJUSTMENT", logit_adjustment)):
            if not 0.0 <= value < float("inf"):
                raise ValueError(f"LT_DET.POST_HOC.{key} must be at least 0, got {value}")
        self.tau_norm, self.logit_adjustment = tau_norm, logit_adjustment
        self._counts: Tensor | None = None
        self._load_counts = load_counts
        if class_counts is not None:
            self.bind(class_counts)

    def bind(self, class_counts: Tensor) -> None:
        """Set the training frequency ``(K,)`` of the foreground classes.

        Raises:
            ValueError: if a count is not positive and finite.
        """
        check_class_counts(class_counts.cpu(), num_columns=class_counts.numel())
        self._counts = class_counts

    def __call__(self, logits: Tensor, classifier: nn.Module, *, background: bool) -> Tensor:
        """Return ``(R, C)`` corrected logits, float32, or ``logits`` where nothing is to be done.

        Args:
            logits: ``(R, C)``, of ``classifier``.
            classifier: where the weights are.
            background: whether the last column is the background; it is left as it is.

        Raises:
            TypeError: if the classifier has no weights whose norm means anything.
            RuntimeError: if class counts are needed and there are none.
        """
        if not self.tau_norm and not self.logit_adjustment:
            return logits
        foreground = logits.float()
        foreground = foreground[:, :-1] if background else foreground
        if self.tau_norm:
            foreground = tau_normalised(foreground, classifier, tau=self.tau_norm)
        if self.logit_adjustment:
            counts = self._class_counts().to(logits.device)
            foreground = prior_adjusted(foreground, counts, tau=self.logit_adjustment)
        if not background:
            return foreground
        return torch.cat([foreground, logits[:, -1:].float()], dim=1)

    def _class_counts(self) -> Tensor:
        if self._counts is None:
            if self._load_counts is None:
                raise RuntimeError(
                    "logit adjustment needs class counts and none are bound: pass class_counts= "
                    "to PostHocCorrection, or call bind()"
                )
            self.bind(self._load_counts())
        return self._counts  # type: ignore[return-value]

    def __repr__(self) -> str:
        return (
            f"PostHocCorrection(tau_norm={self.tau_norm}, logit_adjustment={self.logit_adjustment})"
        )


def tau_normalised(logits: Tensor, classifier: nn.Module, *, tau: float) -> Tensor:
    """Return ``(R, K)`` logits of tau-normalised weights: ``(m / |w_k|)^tau w_k x + mean(b)``.

    m is the mean of the norms ``|w_k|``, b the bias. Kang et al. have neither: they leave the bias
    out, and so is here all of it that differs between classes. So tau near 0 is the classifier
    without its biases, not the classifier.

    Args:
        logits: ``(R, K)`` of ``classifier``, foreground only.
        classifier: linear or "lws", with K rows, or K + 1 of which the last is left out.
        tau: exponent.

    Raises:
        TypeError: for another classifier.
    """
    weight, bias = (p[: logits.shape[1]].detach().float() for p in linear_parameters(classifier))
    norms = weight.norm(dim=1)
    # A row of zeros has no direction and stays one. What its logits differ from the bias by is
    # rounding, which no factor must magnify.
    has_direction = norms > torch.finfo(torch.float32).eps * norms.mean()
    factors = torch.where(has_direction, norms.mean() / norms, 0.0) ** tau
    return factors * (logits - bias) + bias.mean()


def prior_adjusted(logits: Tensor, class_counts: Tensor, *, tau: float) -> Tensor:
    """Return ``(R, K)`` logits ``z_k - tau log(K pi_k)``, pi the shares of the class counts.

    With tau 1 and a classifier that gives the posterior under pi, their softmax is the posterior
    under equal priors. With a sigmoid classifier each class is shifted by itself.

    Args:
        logits: ``(R, K)``, foreground only.
        class_counts: ``(K,)``, positive.
        tau: factor.

    Raises:
        ValueError: if there are not K counts.
    """
    if class_counts.shape != logits.shape[1:]:
        raise ValueError(
            f"class_counts must have shape ({logits.shape[1]},), one for each foreground class, "
            f"got {tuple(class_counts.shape)}"
        )
    counts = class_counts.double()
    return logits - tau * (counts / counts.mean()).log().to(logits.dtype)
