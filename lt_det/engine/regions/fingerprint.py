"""Hash everything that cached region features depend on."""

from __future__ import annotations

import enum
import functools
import hashlib
import logging
import os
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from lt_det.data.stats.class_stats import annotations_of
from lt_det.data.warn_once import warn_once
from lt_det.modeling.classifiers.classification_head import classification_heads
from lt_det.tasks import build_task

#: Data set dict -> what the model takes; for image classifiers dicts -> samples.
Mapper = Callable[[Any], Any]

_PLAIN = (bool, int, float, complex, str, bytes, type(None), type(Ellipsis), slice, range)
_CONTAINERS = (list, tuple, set, frozenset, dict)
_BUILTIN = (
    types.BuiltinFunctionType,
    types.MethodDescriptorType,
    types.WrapperDescriptorType,
    types.MethodWrapperType,
)


def region_fingerprint(
    cfg: Any,
    detector: nn.Module,
    dicts: Sequence[dict],
    *,
    mapper: Mapper | None = None,
    layout: Sequence[int] = (),
) -> str:
    """Return a hash of all that region features depend on: weights, images, input, proposals.

    Of an image the name, size and date, or the pixels where they are in memory; of a mapper what
    :func:`described` says.

    Args:
        cfg: config.
        detector: its trained parameters do not count, nor do the classifiers of this package and
            their losses, which come after the features.
        dicts: data set dicts.
        mapper: None: whatever the config says.
        layout: what else tells caches apart, e.g. the images of a shard.
    """
    digest = hashlib.sha256()
    left_out = {id(p) for p in detector.parameters() if p.requires_grad}
    for head in classification_heads(detector):
        for module in (head.cls_score, head.criterion):
            left_out |= {id(value) for value in (*module.parameters(), *module.buffers())}
    named = [*detector.named_parameters(), *detector.named_buffers()]
    for name, value in named:
        if id(value) not in left_out:
            digest.update(repr((name, _tensor_digest(value))).encode())
    for record in dicts:
        digest.update(repr(_file_state(record.get("file_name"))).encode())
        if "image" in record:
            digest.update(_array_digest(record["image"]).encode())
        digest.update(described_annotations(record).encode())
    # All keys of the model: any of poolers, cascade thresholds, norms and so on may matter.
    model = cfg.MODEL.clone()
    model.defrost()
    model.WEIGHTS, model.DEVICE = "", ""  # their values are above, their names do not matter
    cache = cfg.LT_DET.REGION_CACHE
    keys = [model.dump(), cfg.INPUT.dump(), cache.SEED, cache.DTYPE, *layout, *_keys_of_ours(cfg)]
    digest.update(repr((keys, described(mapper))).encode())
    return digest.hexdigest()[:16]


def described_annotations(record: Mapping[str, Any]) -> str:
    """Return the id of an image with the classes, boxes and crowds of its objects, as text."""
    annotations = [
        (a["category_id"], a.get("bbox"), a.get("iscrowd", 0)) for a in annotations_of(record)
    ]
    return str((record.get("image_id"), annotations))


def _keys_of_ours(cfg: Any) -> list:
    """Return what of LT_DET changes the features: backbone, augmentation, pooled map."""
    backbone = cfg.LT_DET.TIMM.clone()
    backbone.defrost()
    backbone.WEIGHTS = ""  # as MODEL.WEIGHTS
    return [backbone.dump(), *build_task(cfg).build_feature_keys(cfg)]


def described(value: Any) -> Any:
    """Return what tells a mapper, or what it is made of, apart from others: types and text.

    Its method ``fingerprint()``, if it has one, returns just that. Else: of an object its class
    and attributes; of a class its name, its methods and plain attributes, and so of all that it
    inherits from; of a function its name, code, defaults and closure, and the functions, classes
    and CONSTANTS of its own module that it names; of ``functools.partial`` the function and
    arguments. What has no Python state is warned of and taken by its class.
    """
    return _Description().of(value, ())


class _Description:
    """One walk through a mapper; a function or class that comes again is named only."""

    def __init__(self) -> None:
        self._seen: set[int] = set()

    def of(self, value: Any, within: tuple[int, ...]) -> Any:
        """Return the description of ``value``, which ``within``, ids of objects, lead to."""
        if isinstance(value, _PLAIN):
            return repr(value)
        if isinstance(value, types.ModuleType):
            return value.__name__
        if isinstance(value, _BUILTIN):
            # Their repr has addresses.
            return [value.__qualname__, self.of(getattr(value, "__self__", None), within)]
        if isinstance(value, enum.Enum):
            return str(value)
        if id(value) in within:
            return "itself"
        within = (*within, id(value))

        def each(values: Any) -> list:
            return [self.of(v, within) for v in values]

        if isinstance(value, (list, tuple)):
            return each(value)
        if isinstance(value, (set, frozenset)):
            return sorted(map(repr, each(value)))
        if isinstance(value, dict):
            return [each(item) for item in value.items()]
        if isinstance(value, (np.ndarray, np.generic)):
            return _array_digest(value)
        if isinstance(value, torch.Tensor):
            return _tensor_digest(value)
        if isinstance(value, (torch.dtype, torch.device, os.PathLike)):
            return repr(value)
        if isinstance(value, type):
            return self._class(value, within)
        if isinstance(value, types.FunctionType):
            return self._function(value, within)
        name = f"{type(value).__module__}.{type(value).__qualname__}"
        fingerprint = getattr(value, "fingerprint", None)
        if callable(fingerprint):
            return [name, str(fingerprint())]
        if isinstance(value, functools.partial):
            return [name, *each((value.func, value.args, value.keywords))]
        if isinstance(value, types.MethodType):
            return each((value.__func__, value.__self__))
        if isinstance(value, types.CodeType):
            # Without file names, line numbers and the addresses that its repr has.
            return [value.co_code.hex(), *each((value.co_names, value.co_consts))]
        if isinstance(value, logging.Logger):
            return name
        slots = [s for c in type(value).__mro__ for s in _names(getattr(c, "__slots__", ()))]
        state = {s: getattr(value, s) for s in slots if hasattr(value, s)}
        state.update(getattr(value, "__dict__", {}))
        if not state and not hasattr(value, "__dict__"):
            warn_once(
                f"The region cache cannot see the state of a {name} in the mapper: another one "
                "gets the same cached features. Give the mapper a method fingerprint() that "
                "returns a str of all that its samples depend on"
            )
            return name
        return [self._class(type(value), within), self.of(state, within)]

    def _class(self, value: type, within: tuple[int, ...]) -> Any:
        name = f"{value.__module__}.{value.__qualname__}"
        if id(value) in self._seen:
            return name
        self._seen.add(id(value))
        members = []
        for key, member in vars(value).items():
            functions = [f for f in _functions_of(member) if isinstance(f, types.FunctionType)]
            is_dunder = key.startswith("__") and key.endswith("__")
            if functions:
                members.append([key, *(self.of(f, within) for f in functions)])
            elif isinstance(member, (*_PLAIN, *_CONTAINERS)) and not is_dunder:
                members.append([key, self.of(member, within)])
        bases = [self._class(base, within) for base in value.__bases__ if base is not object]
        return [name, members, bases]

    def _function(self, value: types.FunctionType, within: tuple[int, ...]) -> list:
        name = [value.__module__, value.__qualname__]
        if id(value) in self._seen:
            return name
        self._seen.add(id(value))
        cells = []
        for cell in value.__closure__ or ():
            try:
                cells.append(cell.cell_contents)
            except ValueError:  # nothing is in it yet
                cells.append(None)
        named = []
        for key in sorted(_global_names(value.__code__)):
            other = value.__globals__.get(key)
            is_near = isinstance(other, (types.FunctionType, type)) and (
                other.__module__ == value.__module__
            )
            # Others may be flags and counters that change while the program runs.
            if is_near or (key.isupper() and isinstance(other, (*_PLAIN, tuple))):
                named.append((key, other))
        options = (value.__code__, value.__defaults__, value.__kwdefaults__, cells, named)
        return [*name, *(self.of(option, within) for option in options)]


def _functions_of(member: Any) -> tuple:
    """Return what of a class attribute may be Python functions."""
    if isinstance(member, property):
        return (member.fget, member.fset)
    if isinstance(member, (staticmethod, classmethod)):
        return (member.__func__,)
    if isinstance(member, functools.cached_property):
        return (member.func,)
    if isinstance(member, types.FunctionType):
        return (member,)
    return (getattr(member, "__wrapped__", None),)  # of functools.lru_cache, say


def _global_names(code: types.CodeType) -> set[str]:
    """Return the names that a function and those inside of it look up."""
    inner = [_global_names(c) for c in code.co_consts if isinstance(c, types.CodeType)]
    return set(code.co_names).union(*inner)


def _names(slots: Any) -> list[str]:
    names = [slots] if isinstance(slots, str) else list(slots)
    return [n for n in names if n not in ("__dict__", "__weakref__")]


def _array_digest(value: Any) -> str:
    array = np.ascontiguousarray(value)
    content = hashlib.sha256(array.tobytes()).hexdigest()
    return repr((array.shape, array.dtype.str, content))


def _tensor_digest(value: torch.Tensor) -> str:
    # As bytes: numpy has no bfloat16. Flat: a scalar cannot be viewed as bytes.
    content = value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
    return repr((tuple(value.shape), str(value.dtype), hashlib.sha256(content).hexdigest()))


def _file_state(file_name: str | None) -> tuple:
    """Return what changes when a file does; its name alone where it is not a local file."""
    try:
        status = os.stat(file_name or "")
    except OSError:
        return (file_name,)
    return (file_name, status.st_size, status.st_mtime_ns)
