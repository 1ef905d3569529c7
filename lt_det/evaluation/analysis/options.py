"""Settings of an analysis."""

from __future__ import annotations

from dataclasses import dataclass

from lt_det.evaluation.analysis.pooled import PER_CLASS

#: What can be asked for: nothing, all but what takes long, all.
MODES = ("off", "on", "full")


@dataclass(frozen=True)
class AnalysisOptions:
    """Settings of :func:`lt_det.evaluation.analysis.analyse.analyse`.

    Attributes:
        boundary: boundary AP of masks, which takes longer than all the rest.
        per_class: detections of a class that AP-Fixed and AP-Pool count.
        resamples: of the images, for intervals; 0 gives none.
        confidence: probability that the intervals have.
        seed: of the resamples.
        places: of each curve at which the precision of a resample is looked at. Below it intervals
            are exact; a class that finds more moves them by less than chance does.
        bins: of the calibration.
    """

    boundary: bool = False
    per_class: int = PER_CLASS
    resamples: int = 200
    confidence: float = 0.95
    seed: int = 0
    places: int = 256
    bins: int = 10

    def __post_init__(self) -> None:
        if self.resamples < 0 or min(self.per_class, self.bins, self.places) < 1:
            raise ValueError(
                "analysis: expected resamples >= 0, per_class >= 1, bins >= 1 and places >= 1, got "
                f"{self.resamples}, {self.per_class}, {self.bins}, {self.places}"
            )
        if not 0 < self.confidence < 1:
            raise ValueError(
                f"analysis: confidence must be above 0 and below 1, got {self.confidence}"
            )


def options_of_mode(mode: str) -> AnalysisOptions | None:
    """Return the settings of one of :data:`MODES`; None for "off".

    Raises:
        ValueError: if there is no such mode.
    """
    if mode not in MODES:
        raise ValueError(f"analysis: expected one of {MODES}, got {mode!r}")
    return None if mode == "off" else AnalysisOptions(boundary=mode == "full")
