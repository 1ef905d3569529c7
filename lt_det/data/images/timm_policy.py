"""Augmentation policies of timm as objects that can be sent to loader workers."""

from __future__ import annotations

import re
from typing import Any

from torch import Tensor

_NUMBER = r"\d+(\.\d+)?"
_SPREAD = rf"mstd{_NUMBER}"
#: What timm's policies begin with -> the sections that may follow. timm itself reads past those
#: without a number.
TIMM_POLICIES = {
    "rand": rf"(m|n|mmax)\d+|inc[01]|p{_NUMBER}|{_SPREAD}|tweights|t3aw?",
    "augmix": rf"[mwd]\d+|b[01]|a{_NUMBER}|{_SPREAD}",
    **dict.fromkeys(("original", "originalr", "v0", "v0r", "3a"), _SPREAD),
}


class TimmPolicy:
    """Augmentation of ``(3, H, W)`` uint8 RGB images by a policy of timm.

    It can be pickled, for loader workers that are spawned; timm's own objects cannot.
    """

    def __init__(self, policy: str, *, size: int) -> None:
        """Build the policy; arguments as in :func:`auto_augment`."""
        self.policy, self.size = policy, size
        self._transform = _timm_transform(policy, size=size)

    def __call__(self, image: Tensor) -> Tensor:
        """Return the augmented image."""
        from torchvision.transforms.v2 import functional

        return functional.pil_to_tensor(self._transform(functional.to_pil_image(image)))

    def __getstate__(self) -> dict[str, Any]:
        """Return policy and size; the rest is built again."""
        return {"policy": self.policy, "size": self.size}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Build what :meth:`__getstate__` says."""
        self.__init__(state["policy"], size=state["size"])  # type: ignore[misc]

    def fingerprint(self) -> str:
        """Return what samples depend on, for the region cache."""
        return f"{self.policy} {self.size}"


def _timm_transform(policy: str, *, size: int) -> Any:
    try:
        from timm.data import create_transform
    except ImportError as error:
        raise ImportError(
            f"auto_augment {policy!r} is a policy of timm: pip install timm"
        ) from error
    name, *sections = policy.split("-")
    for section in sections:
        if not re.fullmatch(TIMM_POLICIES[name], section):
            raise ValueError(
                f"auto_augment {policy!r} is no policy of timm: {name!r} has no section {section!r}"
            )
    try:
        # Crop and flip, policy, conversion to tensors: only the second. "3a" would bring a jitter
        # of 0.4, which is not TRANSFORM.COLOR_JITTER.
        options: dict[str, Any] = {"is_training": True, "separate": True, "color_jitter": None}
        return create_transform(size, auto_augment=policy, **options)[1]
    except (AssertionError, ValueError, KeyError, IndexError) as error:
        raise ValueError(f"auto_augment {policy!r} is no policy of timm: {error}") from error
