"""Evaluation: LVIS average precision without Detectron2, and the two Detectron2 evaluators.

Import from the modules: :mod:`lvis_ap` (function), :mod:`lvis_evaluator`, :mod:`coco_evaluator`.
This file imports nothing, so that the metric can be used where Detectron2 is not installed.
"""
