"""What Detectron2 finds if equal scores have our order, and how often a GPU is waited for."""

from __future__ import annotations

from collections import Counter

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


def distinct(scores: Tensor, threshold: float) -> Tensor:
    """Return scores without equals: n, n - 1, ... 1 by falling score, region and class.

    What is not above the threshold becomes 0. So Detectron2's code, given these and the threshold
    0, has no choice among equals.
    """
    flat = scores.reshape(-1)
    candidates = (flat > threshold).nonzero()[:, 0]
    assert len(candidates) < 2**24  # whole numbers in float32
    order = candidates[flat[candidates].sort(descending=True, stable=True)[1]]
    result = torch.zeros_like(flat, dtype=torch.float32)
    result[order] = torch.arange(len(order), 0, -1, device=flat.device, dtype=torch.float32)
    return result.view_as(scores)


class Waits(TorchDispatchMode):
    """Counts what would wait for a GPU: values that the host reads, sizes that depend on values.

    Reading by ``tolist`` and ``cpu`` is no operation on a CPU; :meth:`watch` counts it, too.
    """

    _READS = {"_local_scalar_dense", "equal", "is_nonzero"}
    _SIZES = {"nonzero", "masked_select", "_unique2", "unique_consecutive", "bincount", "nms"}

    def __init__(self) -> None:
        super().__init__()
        self.of: Counter[str] = Counter()

    def watch(self, monkeypatch) -> Waits:
        """Count ``tolist``, ``cpu`` and ``numpy`` until the test ends."""
        for name in ("tolist", "cpu", "numpy"):
            method = getattr(torch.Tensor, name)

            def counted(tensor, *args, _name=name, _method=method):
                self.of[_name] += 1
                return _method(tensor, *args)

            monkeypatch.setattr(torch.Tensor, name, counted)
        return self

    def total(self) -> int:
        return sum(self.of.values())

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        by_mask = name in ("index", "index_put", "index_put_") and any(
            index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1]
        )
        of_unknown_size = name == "repeat_interleave" and kwargs.get("output_size") is None
        if name in self._READS | self._SIZES or by_mask or of_unknown_size:
            self.of[name] += 1
        return func(*args, **kwargs)
