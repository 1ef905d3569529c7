"""Public functions, each handed on to the module that does the work.

Nothing is imported before it is needed: neither PyTorch nor Detectron2 by ``import lt_det``.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from detectron2.config import CfgNode
    from torch import nn

    from lt_det.balancing.run import Balanced
    from lt_det.data.stats.class_stats import ClassStats
    from lt_det.data.stats.json_stats import CountSource
    from lt_det.engine.prediction.predict import Predicted
    from lt_det.evaluation.lvis.average_precision import LVISAveragePrecision
    from lt_det.losses.base_criterion import BaseCriterion
    from lt_det.losses.criterion import Criterion


def register(
    name: str,
    json_file: str | os.PathLike[str],
    image_root: str | os.PathLike[str] = "",
    **metadata: Any,
) -> None:
    """Register a data set in LVIS's or COCO's json format with Detectron2.

    It is evaluated by LVIS's rules; ``evaluator_type="coco"`` asks for COCO's. See
    :func:`lt_det.data.annotations.datasets.register_lvis_format`.

    Args:
        name: for ``DATASETS.TRAIN``, ``DATASETS.TEST`` and the functions of this module.
        json_file: annotations.
        image_root: folder of the images.
        metadata: further entries of the data set's metadata.

    Raises:
        ValueError: if the name is taken by other files, or the categories are unusable.
    """
    from lt_det.data.annotations.datasets import register_lvis_format

    register_lvis_format(name, json_file, image_root, **metadata)


def class_stats(
    dataset: str | os.PathLike[str] | Sequence[str],
    *,
    count_source: CountSource = "auto",
    rare_max: int = 10,
    common_max: int = 100,
) -> ClassStats:
    """Return images and instances of each class, and which classes are rare, common, frequent.

    Args:
        dataset: name of a registered data set, or several that are trained on together; or the
            path of a COCO- or LVIS-format json, which needs no Detectron2.
        count_source: "annotations" counts them, "categories" takes the numbers that an LVIS json
            declares, "auto" does so if the file is a subset of what they count.
        rare_max: most images of a rare class.
        common_max: most images of a common class.

    Raises:
        KeyError: if a name is not registered; says which are close.
        FileNotFoundError: if a json is missing.
        ValueError: if annotations or classes are unusable.
    """
    if isinstance(dataset, os.PathLike) or (isinstance(dataset, str) and dataset.endswith(".json")):
        from dataclasses import replace

        from lt_det.data.stats.stats_cache import class_stats_of_json

        name = os.path.splitext(os.path.basename(dataset))[0]
        stats = class_stats_of_json(dataset, name=name, count_source=count_source)
        return replace(stats, rare_max=rare_max, common_max=common_max)
    from lt_det.data.annotations.datasets import class_stats_of

    return class_stats_of(
        dataset, count_source=count_source, rare_max=rare_max, common_max=common_max
    )


def list_losses(
    pattern: str = "*", *, kind: Literal["softmax", "sigmoid"] | None = None
) -> list[str]:
    """Return the names of the losses, sorted.

    Args:
        pattern: of the names, as in a shell: "*balanced*".
        kind: only losses of logits that become scores in this way.
    """
    import fnmatch

    from lt_det.losses import LOSSES

    names = fnmatch.filter(LOSSES, pattern)
    return sorted(name for name in names if kind in (None, LOSSES[name].kind))


def create_loss(name: str, stats: ClassStats | None = None, **params: Any) -> Criterion:
    """Return a loss with the class counts of a training set.

    It has a count for each of the K foreground classes; a head with a background column adds that
    column's prior by itself. See :func:`lt_det.modeling.patching.create_loss`.

    Args:
        name: one of :func:`list_losses`.
        stats: of the training set; None for losses that need no counts.
        params: hyper-parameters of the loss, such as ``tau=1.0``; and ``unit="instance"`` to count
            instances.

    Raises:
        KeyError: if there is no such loss.
        ValueError: if it has no such hyper-parameter, or needs counts and gets none.
    """
    from lt_det.modeling.patching import create_loss as create

    return create(name, stats, **params)


def patch(
    model: nn.Module,
    loss: BaseCriterion | str,
    *,
    dataset: str | Sequence[str] | None = None,
    post_processing: bool = False,
    **params: Any,
) -> nn.Module:
    """Replace the classification loss of a model, in place; return the model.

    The model keeps its predictors, their parameters and ``state_dict`` keys; :func:`unpatch` puts
    its own loss back. See :func:`lt_det.modeling.patching.patch`.

    Args:
        model: detector of Detectron2, or derived from one.
        loss: what :func:`create_loss` returns, or the name of a loss.
        dataset: registered training set, or several; its classes are counted.
        post_processing: find the detections by this package's code too, which is faster with many
            classes.
        params: hyper-parameters, where ``loss`` is a name; also ``stats``, in place of ``dataset``.

    Raises:
        KeyError: if there is no such loss or data set.
        ValueError: if the model has no head that can be patched, or the loss does not fit it.
    """
    from lt_det.modeling.patching import patch as patch_model

    return patch_model(model, loss, dataset=dataset, post_processing=post_processing, **params)


def unpatch(model: nn.Module) -> nn.Module:
    """Put back the loss that :func:`patch` replaced, in place; return the model."""
    from lt_det.modeling.patching import unpatch as unpatch_model

    return unpatch_model(model)


def add_config(cfg: CfgNode) -> None:
    """Add the keys of this package, ``cfg.LT_DET``, to a config of Detectron2, in place.

    It also registers models and heads, and changes nothing by itself. Call it before
    ``cfg.merge_from_file``.
    """
    from lt_det.config import add_lt_det_config

    add_lt_det_config(cfg)


def load_config(config_file: str = "", options: Sequence[str] = ()) -> CfgNode:
    """Return a config of this package, its data sets registered; for :class:`lt_det.Trainer`.

    Args:
        config_file: path, or name of a config that comes with the package, such as
            "lvis_balms_r50.yaml"; "" is the defaults.
        options: KEY VALUE pairs, as on the command line.

    Raises:
        FileNotFoundError: if there is no such file; says which names are close.
        KeyError: if a key does not exist; says which are close.
        ValueError: if a value has the wrong type, or a data set cannot be registered.
    """
    from lt_det.engine.startup.setup import load_config as load

    return load(config_file, [str(option) for option in options])


def run_stages(
    config_files: Sequence[str | os.PathLike[str]],
    options: Sequence[str] = (),
    *,
    resume: bool = False,
    num_gpus: int = 1,
) -> None:
    """Train several configs one after the other, each from the checkpoint of the one before.

    The same as ``lt-det train --stages``: a stage writes to the OUTPUT_DIR of its config, or with
    OUTPUT_DIR in ``options`` to OUTPUT_DIR/<name of the config>.

    Args:
        config_files: paths, or names of configs that come with the package.
        options: KEY VALUE pairs, for all stages.
        resume: skip the stages that are done and continue the first that is not.
        num_gpus: processes on this machine.
    """
    from lt_det.engine.run import launch_stages

    launch_stages(
        [os.fspath(file) for file in config_files],
        [str(option) for option in options],
        resume=resume,
        num_gpus=num_gpus,
    )


def evaluate_lvis(
    ground_truth: str | os.PathLike[str],
    detections: Any,
    *,
    stats: ClassStats | None = None,
    **options: Any,
) -> dict[str, LVISAveragePrecision]:
    """Return LVIS AP of a json of detections, for boxes and masks; needs no Detectron2.

    See :func:`lt_det.evaluation.lvis.json_evaluation.evaluate_lvis`.

    Args:
        ground_truth: COCO- or LVIS-format json of the test set.
        detections: json file of result records, or the records.
        stats: class statistics of the TRAINING set, from which r, c and f are; None takes those
            that the json declares.
        options: ``iou_types``, ``max_dets``, ``backend``, ``output_dir``.
    """
    from lt_det.evaluation.lvis.json_evaluation import evaluate_lvis as evaluate

    return evaluate(ground_truth, detections, stats=stats, **options)


def balance(
    cfg: CfgNode | str,
    weights: str | os.PathLike[str] = "",
    *,
    output: str | os.PathLike[str],
    objective: str = "",
    keep: str | None = None,
    at_most: float = 0.0,
    **options: Any,
) -> Balanced:
    """Balance a trained detector or image classifier; what ``lt-det balance`` does.

    Writes ``balanced.pth`` and ``balanced.yaml``, of detectors for plain Detectron2 where the
    backbone is. See :func:`lt_det.balancing.run.run_balance`.

    Args:
        cfg: config of the model, its data sets registered; or a config file.
        weights: checkpoint; "" is MODEL.WEIGHTS of the config.
        output: folder; what is finished there is kept and used again.
        objective: "AP", "APr", "APc" or "APf"; of images "mean_class", "few", "medium" or "many".
            "" is "APr" or "mean_class".
        keep: metric that must not fall, "" for none; None is the mean over all classes.
        at_most: points by which it may fall.
        options: see :class:`lt_det.balancing.options.BalanceOptions`.
    """
    from pathlib import Path

    from lt_det.balancing.options import BalanceOptions, objective_of
    from lt_det.balancing.run import run_balance

    config = load_config(cfg) if isinstance(cfg, str) else cfg.clone()
    if weights:
        config.defrost()
        config.MODEL.WEIGHTS = os.fspath(weights)
    chosen = objective_of(config, objective, keep, at_most)
    return run_balance(config, BalanceOptions(objective=chosen, **options), Path(output).resolve())


def predict(
    weights: str | os.PathLike[str],
    inputs: Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    **options: Any,
) -> Predicted:
    """Predict on images with a trained model; what ``lt-det predict`` does.

    See :func:`lt_det.engine.prediction.predict.predict`, also for the options.

    Args:
        weights: checkpoint, or folder of a run; its config is ``config.yaml`` beside it.
        inputs: images and folders.
        output: folder of what is written.
        options: see there.
    """
    from lt_det.engine.prediction.predict import predict as predict_images

    return predict_images(weights, inputs, output, **options)
