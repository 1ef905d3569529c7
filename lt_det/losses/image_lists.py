"""Image lists: what an image's annotation says of each class, and which logits that hides.

In LVIS (Gupta et al., arXiv:1908.03195, section 3) an image is annotated for some classes only.
Those it has objects of and those it is verified not to have (``neg_category_ids``) are known; of
some it has more objects than are annotated (``not_exhaustive_category_ids``); of all others nothing
is known. A loss that takes every class for a negative of every region teaches the classifier
that unannotated objects are background. The evaluation obeys the lists; released training code
does not.

Shape shorthand: N images of a batch, R regions of all of them, K classes; label K is the
background.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

from lt_det.losses.draws import Draws
from lt_det.losses.sampled_classes import sampled_classes

#: Of a class in an image: nothing is known; it is there, annotated in part; annotated completely
#: or verified to be absent.
UNKNOWN, INCOMPLETE, KNOWN = 0, 1, 2

#: Key of a sample: ``(K,)`` uint8 of the three above.
CLASS_KNOWLEDGE = "class_knowledge"

Policy = Literal["all", "known"]

#: A logit so low that nearly no loss feels it; it fits into float16. A loss that would feel it
#: says another one, see :attr:`lt_det.losses.spec.LossSpec.hidden_logit`.
HIDDEN = -1e4


class ImageLists:
    """Hides from a loss the classes that an image's annotation does not vouch for.

    A hidden logit is replaced by -10^4, or by the loss's own ``hidden_logit``. Its loss, if it is
    a sigmoid, is 0; out of the sum of a softmax it drops. Either way its gradient is exactly 0, for
    any loss of the table, and a running state does not see it. With m = 1 for what stays, a softmax
    loss becomes ``-z_y + log sum_{c: m_c = 1} e^{z_c}``, a sigmoid loss ``(1 / R) sum m * bce``:
    what a loss is divided by stays. Never hidden are a region's own class, and the columns after
    the K classes (background, objectness).

    A region of the background keeps the classes that are ``KNOWN`` in its image. A region of an
    object keeps all classes with the policy "all", and with "known" those that are not ``UNKNOWN``.
    Nothing is hidden in an image whose classes are all ``KNOWN``: the loss is the plain one, bit by
    bit.

    Every class is verified in few images, so the lists leave few negatives. With ``fill``, regions
    of the background also keep ``UNKNOWN`` classes that are in a set S of the batch: its labels and
    drawn classes, as in the federated loss. ``INCOMPLETE`` classes stay hidden.

    Attributes:
        knowledge: ``(N, K)`` uint8 of the batch at hand, on the device of the model; see
            :func:`lt_det.modeling.image_lists.honour_lists`.
        draws: where the draws of ``fill`` come from; None is torch's own random state.
    """

    knowledge: Tensor | None = None
    draws: Draws | None = None

    def __init__(
        self,
        policy: Policy = "all",
        *,
        fill: int = 0,
        fill_power: float = 0.5,
        class_counts: Sequence[float] | None = None,
        load_counts: Callable[[], tuple[Tensor, int]] | None = None,
    ) -> None:
        """Choose what is hidden.

        Args:
            policy: for regions of objects: "all" hides nothing, "known" what is ``UNKNOWN``.
            fill: size of the set S, the background included; 0: no such set.
            fill_power: classes are drawn into S in proportion to their count to this power.
            class_counts: ``(K,)``, positive; for ``fill``.
            load_counts: returns them and the number of images; called at the first batch if they
                were not given.

        Raises:
            ValueError: if a value is out of range, or ``fill`` has no counts.
        """
        if policy not in get_args(Policy):
            raise ValueError(f"policy must be one of {get_args(Policy)}, got {policy!r}")
        if fill < 0:
            raise ValueError(f"fill must be at least 0, got {fill}")
        if fill_power < 0:
            raise ValueError(f"fill_power must be at least 0, got {fill_power}")
        if fill and class_counts is None and load_counts is None:
            raise ValueError(f"fill {fill} draws classes by their counts: pass class_counts")
        self.policy, self.fill, self.fill_power = policy, fill, fill_power
        self._counts: Tensor | None = None
        if class_counts is not None:
            self._counts = torch.tensor([float(c) for c in class_counts], dtype=torch.float64)
        self._load_counts = load_counts

    @property
    def num_images(self) -> int:
        """Number of images of the batch at hand.

        Raises:
            RuntimeError: if there are no lists of it.
        """
        return self._known().shape[0]

    def _known(self) -> Tensor:
        if self.knowledge is None:
            raise RuntimeError(
                "the lists of the images did not reach the loss: train with LongTailTrainer, or "
                "call lt_det.modeling.image_lists.honour_lists(model) and map the records by "
                "lt_det.tasks.listed_mapper.ListedMapper"
            )
        return self.knowledge

    def hide(
        self, logits: Tensor, labels: Tensor, images: Tensor, *, value: float = HIDDEN
    ) -> Tensor:
        """Return ``logits`` with those of hidden classes at ``value``.

        Args:
            logits: ``(R, C)`` float, the K classes first.
            labels: ``(R,)`` int64 in ``[0, K]``.
            images: ``(R,)`` int64 in ``[0, N)``, image of each region; see :func:`image_of_region`.
            value: ``hidden_logit`` of the criterion that gets the result.

        Raises:
            RuntimeError: if there are no lists of this batch.
            ValueError: if they are of more classes than there are logits.
        """
        columns, num_classes = logits.shape[1], self._known().shape[1]
        if columns < num_classes:
            raise ValueError(
                f"image lists are of {num_classes} classes, the logits of {columns}: "
                "give the mapper the number of classes of the model"
            )
        return logits.masked_fill(self._hidden(labels, images, columns), value)

    def hidden(self, labels: Tensor, images: Tensor) -> Tensor:
        """Return ``(R, K)`` bool, whether a class is hidden from a region; see :meth:`hide`."""
        return self._hidden(labels, images, self._known().shape[1])

    def _hidden(self, labels: Tensor, images: Tensor, columns: int) -> Tensor:
        knowledge = self._known()
        num_classes = knowledge.shape[1]
        on_background = knowledge != KNOWN
        if self.fill:
            on_background &= (knowledge == INCOMPLETE) | ~self._filled(labels, num_classes)
        if self.policy == "all":
            on_object = torch.zeros_like(on_background)
        else:
            on_object = knowledge == UNKNOWN
        # One row for each image and kind of region. Columns after the classes are never hidden; of
        # these there is at least one, that of the label K.
        tables = torch.stack([on_background, on_object], dim=1).flatten(0, 1)
        tables = functional.pad(tables, (0, max(columns - num_classes, 1)))
        hidden = tables[2 * images + (labels < num_classes)]
        # An own class may be missing in the lists: annotations are not free of errors.
        return hidden.scatter_(1, labels[:, None], False)[:, :columns]

    def _filled(self, labels: Tensor, num_classes: int) -> Tensor:
        if self._counts is None:
            assert self._load_counts is not None
            self._counts = self._load_counts()[0]
        self._counts = self._counts.to(labels.device)
        present = torch.zeros(num_classes + 1, dtype=torch.bool, device=labels.device)
        present.scatter_(0, labels, True)
        return sampled_classes(
            present[:num_classes],
            has_background=present[num_classes],
            class_counts=self._counts,
            num_sampled=self.fill,
            frequency_power=self.fill_power,
            generator=None if self.draws is None else self.draws.generator(labels.device),
        )


def without_hidden(logits: Tensor, hidden: Tensor | None, *, value: float = HIDDEN) -> Tensor:
    """Return ``logits`` as :meth:`ImageLists.hide` does, from a mask that is known.

    Args:
        logits: ``(R, C)`` float, the K classes first.
        hidden: ``(R, K)`` bool of :meth:`ImageLists.hidden`; None hides nothing.
        value: as there.
    """
    if hidden is None:
        return logits
    return logits.masked_fill(functional.pad(hidden, (0, logits.shape[1] - hidden.shape[1])), value)


def image_of_region(regions_per_image: Sequence[int], *, num_images: int, like: Tensor) -> Tensor:
    """Return ``(R,)`` int64, the image of each region of a batch, images one after another.

    Args:
        regions_per_image: one number an image.
        num_images: images that there are lists of.
        like: labels ``(R,)``; gives the device.

    Raises:
        ValueError: if the numbers are not of these images or these regions.
    """
    if len(regions_per_image) != num_images or sum(regions_per_image) != like.numel():
        raise ValueError(
            f"lists of {num_images} images do not fit {like.numel()} regions of "
            f"{len(regions_per_image)} images ({list(regions_per_image)} each)"
        )
    sizes = torch.tensor(list(regions_per_image), dtype=torch.int64)
    images = torch.repeat_interleave(torch.arange(num_images), sizes, output_size=like.numel())
    return images.to(like.device, non_blocking=True)
