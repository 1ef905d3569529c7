"""Trainer: Detectron2's, with long-tail losses, decoupled training and the meta step."""

from __future__ import annotations

import logging
import os
import weakref
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

from detectron2.engine import DefaultTrainer, HookBase, TrainerBase
from detectron2.engine.hooks import EvalHook
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from detectron2.utils.events import EventWriter
from torch import nn

from lt_det.config import default_keys
from lt_det.engine import hooks
from lt_det.engine.best_checkpoint import StopTraining, build_follow_result, end_of_run
from lt_det.engine.checkpoint import ClassStatsState, LongTailCheckpointer
from lt_det.engine.detection_limits import limited
from lt_det.engine.evaluated_model import EvaluatedModel, evaluating, load_evaluated_model
from lt_det.engine.evaluators import build_evaluator, check_test_sets, prepare_evaluation
from lt_det.engine.loading.build import build_test_loader, build_train_stream
from lt_det.engine.loading.streams import build_streams, obey_keys
from lt_det.engine.meta.batches import MetaBatches
from lt_det.engine.meta.build import build_meta_learner
from lt_det.engine.meta.step_model import MetaStepModel
from lt_det.engine.metrics_file import MetricsFile
from lt_det.engine.regions.classifier import RegionClassifier
from lt_det.engine.start_classes import build_start_classes
from lt_det.engine.startup.config_checks import (
    check_config,
    check_device,
    check_keys_are_there,
    check_loss_is_used,
)
from lt_det.engine.startup.datasets import register_datasets
from lt_det.engine.startup.run_record import write_run_record
from lt_det.engine.startup.world_size import scale_to_world_size
from lt_det.engine.training_loop import build_loop, not_finite
from lt_det.engine.training_model import bind_class_stats, wrap_ddp
from lt_det.engine.weights_fit import NO_FIRST_STAGE, check_start
from lt_det.meta.meta_learner import MetaLearner
from lt_det.modeling.classifiers.decoupled import classifier_parameters, freeze_all_but_classifier
from lt_det.modeling.patching.from_config import patch_from_config
from lt_det.tasks import build_class_stats

logger = logging.getLogger(__name__)


class LongTailTrainer(DefaultTrainer):
    """:class:`DefaultTrainer` for the configs of this package.

    With the defaults of LT_DET it trains as :class:`DefaultTrainer` does. Beyond it: class
    statistics of the training set reach every loss and are kept in the checkpoint; DDP on CPUs;
    second stages, meta learners and the region cache. With SEED set, a resumed run repeats an
    uninterrupted one bit by bit (but with the Meta Sampler and loader processes, which draw ahead).
    """

    def __init__(self, cfg: Any) -> None:
        """Build model, data, optimizer and hooks.

        Raises:
            ValueError: if the config contradicts itself or the data.
        """
        # DefaultTrainer builds a loop that this one replaces, so only its base is initialised.
        TrainerBase.__init__(self)
        check_keys_are_there(cfg)
        cfg = self.auto_scale_workers(cfg, comm.get_world_size())
        register_datasets(cfg)
        check_config(cfg)
        self.cfg = cfg
        self.class_stats = build_class_stats(cfg)
        if self._has_stock_evaluators():
            check_test_sets(cfg, class_names=self.class_stats.class_names)
        self._loader: Iterable[list] = self.build_train_loader(cfg)  # read in train() only

        detector = self.build_model(cfg)
        check_loss_is_used(cfg, detector)
        obey_keys(cfg, detector, self._loader)
        bind_class_stats(detector, self.class_stats, unit=cfg.LT_DET.CLASS_STATS.UNIT)
        if cfg.LT_DET.DECOUPLED:
            detector = freeze_all_but_classifier(detector)
        optimizer = self.build_optimizer(cfg, detector)
        self._detector = detector
        self.meta: MetaLearner | None = None
        if cfg.LT_DET.META.ENABLED:
            self.meta = build_meta_learner(cfg, self.class_stats)
        self._stream: Iterable[list] = ()
        self._meta_batches: MetaBatches | None = None

        module = RegionClassifier(detector) if cfg.LT_DET.REGION_CACHE.ENABLED else detector
        model: nn.Module = wrap_ddp(module)
        if self.meta is not None:
            model = MetaStepModel(
                model,
                meta=self.meta,
                meta_batches=self._next_meta_batch,
                optimizer=optimizer,
                interval=cfg.LT_DET.META.INTERVAL,
                meta_loss=cfg.LT_DET.META.LOSS,
                whole_network=cfg.LT_DET.META.SCOPE == "network",
            )
        # The loader comes in train(): cached regions need the weights that are loaded later.
        self._trainer = build_loop(cfg, model, optimizer)
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        self.checkpointer = LongTailCheckpointer(
            detector,
            cfg.OUTPUT_DIR,
            trainer=weakref.proxy(self),
            class_stats=ClassStatsState(self.class_stats),
        )
        self.start_iter, self.max_iter = 0, cfg.SOLVER.MAX_ITER
        self._metrics_file = MetricsFile(cfg.OUTPUT_DIR)
        self.register_hooks(self.build_hooks())

    def _next_meta_batch(self) -> Any:
        if self._meta_batches is None:
            raise RuntimeError("meta batches are built by train(); call it first")
        return self._meta_batches()

    def resume_or_load(self, resume: bool = True) -> None:
        """Resume from OUTPUT_DIR's last checkpoint, or load MODEL.WEIGHTS.

        Raises:
            ValueError: if a second stage is asked to start from anything but a whole first one, or
                most of the weights do not fit.
        """
        resuming, self._metrics_file.resumes = resume and self.checkpointer.has_checkpoint(), resume
        weights = self.cfg.MODEL.WEIGHTS
        if self.cfg.LT_DET.DECOUPLED and not resuming and not weights:
            raise ValueError(NO_FIRST_STAGE)
        self.checkpointer.classes = build_start_classes(self.cfg, self.class_stats.class_names)
        fresh = [(p, p.detach().clone()) for p in classifier_parameters(self._detector)]
        super().resume_or_load(resume=resume)
        if resuming or not weights:
            self.max_iter = end_of_run(self.cfg, self.start_iter)
            return
        if self.cfg.LT_DET.RESET_CLASSIFIER:
            for parameter, value in fresh:
                parameter.data.copy_(value)
            logger.info("LT_DET.RESET_CLASSIFIER: cls_score starts anew")
        check_start(weights, self.checkpointer, second_stage=self.cfg.LT_DET.DECOUPLED)

    def train(self) -> Any:
        """Train to SOLVER.MAX_ITER or early stopping; return results for TEST.EXPECTED_RESULTS."""
        self._build_streams()
        try:
            return super().train()
        except StopTraining:
            return getattr(self, "_last_eval_results", None)

    def _build_streams(self) -> None:
        """Build training and meta batches, each at the place where the run starts."""
        self._stream, self._meta_batches = build_streams(
            self.cfg, self._detector, self._loader, start_iter=self.start_iter, meta=self.meta
        )
        self._trainer.data_loader = self._stream
        if not isinstance(getattr(type(self._trainer), "_data_loader_iter", None), property):
            # Detectron2 v0.6 iterates from its start, over what it was built with.
            self._trainer._data_loader_iter = iter(self._stream)

    def build_hooks(self) -> list[HookBase]:
        """Return Detectron2's hooks and ours; only LT_DET.BEST_CHECKPOINT follows the writers."""
        # PreciseBN would want a loader here, before there is one, and has nothing to do with us.
        evaluate = EvalHook(self.cfg.TEST.EVAL_PERIOD, self._evaluate)
        ret = [
            evaluate if isinstance(hook, EvalHook) else hook
            for hook in super().build_hooks()
            if hook is not None
        ]
        if comm.get_world_size() > 1 and not self.cfg.LT_DET.DECOUPLED:
            periods = (self.cfg.SOLVER.CHECKPOINT_PERIOD, self.cfg.TEST.EVAL_PERIOD)
            ret.insert(0, hooks.AverageBatchNorm(self._detector, periods=periods))
        ours = hooks.build_hooks(self.cfg, self._trainer.model, self.meta, self.class_stats)
        ours.append(self._metrics_file)
        if comm.is_main_process():
            ours.append(ret.pop())
        return [*ret, *ours, *build_follow_result(self.cfg)]  # the last may end the loop

    def build_writers(self) -> list[EventWriter]:
        """Return Detectron2's writers, but for metrics.json that of this package."""
        return self._metrics_file.among(super().build_writers())

    def run_step(self) -> None:
        """Run one iteration.

        Raises:
            FloatingPointError: if anything is not finite; weights and checkpoints are untouched.
        """
        try:
            super().run_step()
        except FloatingPointError as error:
            last = self.checkpointer.get_checkpoint_file()
            raise not_finite(error, self.iter, self.storage.latest(), last) from error

    def _evaluate(self) -> OrderedDict:
        """Evaluate the model as it is; what :class:`EvalHook` calls."""
        # After the last iteration the number is one higher already.
        iterations = min(self.iter + 1, self.max_iter)
        saved = os.path.join(self.cfg.OUTPUT_DIR, "model_final.pth")
        weights = saved if iterations == self.max_iter and os.path.isfile(saved) else None
        goes_on = iterations < self.max_iter
        with evaluating(EvaluatedModel(weights, iterations, self.class_stats, goes_on)):
            self._last_eval_results = self.test(self.cfg, self.model)
        return self._last_eval_results

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the loop and of the Meta Reweighter."""
        state = super().state_dict()
        if "_trainer" not in state:  # Detectron2 v0.6 forgets the loop, and so the optimizer
            state["_trainer"] = self._trainer.state_dict()
        if self.meta is not None:
            state["meta"] = self.meta.state_dict()
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        try:
            super().load_state_dict(state_dict)
            if "state_dict" not in vars(DefaultTrainer):  # v0.6, see above
                self._trainer.load_state_dict(state_dict["_trainer"])
        except ValueError as error:
            raise ValueError(
                f"the checkpoint to resume from, in OUTPUT_DIR {self.cfg.OUTPUT_DIR!r}, is of "
                f"another training ({error}): a second stage needs an OUTPUT_DIR of its own, or "
                "start without --resume"
            ) from error
        if self.meta is not None:
            if "meta" not in state_dict:
                raise ValueError(
                    "LT_DET.META.ENABLED, but the checkpoint to resume from has no class weights: "
                    "resume with the config it was made with, or start anew in another OUTPUT_DIR"
                )
            self.meta.load_state_dict(state_dict["meta"])

    @staticmethod
    def auto_scale_workers(cfg: Any, num_workers: int) -> Any:
        """Return the config with SOLVER.REFERENCE_WORLD_SIZE applied, to our keys as well."""
        return scale_to_world_size(cfg, num_workers)

    @classmethod
    def build_model(cls, cfg: Any) -> nn.Module:
        """Return the model of the config, with LT_DET.PATCH with the loss of this package."""
        return patch_from_config(cfg, super().build_model(cfg), defaults=default_keys())

    @classmethod
    def build_train_loader(cls, cfg: Any, mapper: Any = None) -> Iterable[list]:
        """Return an endless loader of training batches; override it for a mapper of your own.

        Args:
            cfg: config.
            mapper: data set dict -> sample; None is Detectron2's. Meta batches and the region
                cache use the same.
        """
        return build_train_stream(cfg, mapper=mapper)

    @classmethod
    def build_test_loader(cls, cfg: Any, dataset_name: str) -> Any:
        """Return a loader of the whole data set, for images to classify in large batches."""
        return build_test_loader(cfg, dataset_name)

    @classmethod
    def build_evaluator(
        cls, cfg: Any, dataset_name: str, output_folder: str | None = None
    ) -> DatasetEvaluator:
        """Return the evaluator that fits the data set's metadata."""
        return build_evaluator(cfg, dataset_name, output_folder)

    @classmethod
    def test(cls, cfg: Any, model: nn.Module, evaluators: Any = None) -> OrderedDict:
        """Evaluate on DATASETS.TEST; return results, of the run's own model write files too."""
        with limited(cls, cfg, model) as (limited_class, protocol):
            results = super(LongTailTrainer, limited_class).test(cfg, model, evaluators)
        write_run_record(cfg, results, model, protocol=protocol)
        return results

    @classmethod
    def _has_stock_evaluators(cls) -> bool:
        return cls.build_evaluator.__func__ is LongTailTrainer.build_evaluator.__func__  # type: ignore[attr-defined]

    @classmethod
    def evaluate_checkpoint(cls, cfg: Any, *, resume: bool = False) -> OrderedDict:
        """Evaluate MODEL.WEIGHTS, or with ``resume`` OUTPUT_DIR's last checkpoint.

        Raises:
            ValueError: if there are no weights, or config and data contradict each other.
        """
        check_keys_are_there(cfg)
        check_device(cfg)
        register_datasets(cfg)
        cfg = prepare_evaluation(cfg, resume=resume, check_sets=cls._has_stock_evaluators())
        model = cls.build_model(cfg)
        with evaluating(load_evaluated_model(cfg, model, resume=resume)):
            return cls.test(cfg, model)
