"""Why AP of a class is 0 or undefined, in words."""

from __future__ import annotations


def reason(
    *,
    objects: int,
    to_ignore: int,
    detections: int,
    judged: int,
    found: int,
    best_overlap: float,
    taken_for: str,
) -> str:
    """Return a sentence; "" where AP is neither 0 nor undefined.

    Args:
        objects: to find, of the class.
        to_ignore: objects of it that need not be found.
        detections: of it.
        judged: those of them in images that say something about the class.
        found: objects found at IoU 0.5.
        best_overlap: largest IoU of one of its judged detections with one of its objects.
        taken_for: class that most of its objects are first detected as, "" for none or itself.
    """
    if not objects:
        if to_ignore:
            return f"undefined: its {to_ignore} objects in this set are all to be ignored"
        return "undefined: this set has no object of it"
    if found:
        return ""
    if not detections:
        why = "never detected"
    elif not judged:
        why = f"detected {_times(detections)}, but only in images that say nothing about it"
    else:
        why = (
            f"detected {_times(judged)} in images that say something about it, but its objects are "
            f"overlapped by {best_overlap:.2f} at most (0.50 is needed)"
        )
    if taken_for:
        why += f"; most of its objects are first detected as {taken_for!r}"
    return why


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"
