"""Data sets and what is counted in them.

Numpy and torch only, but for :mod:`lt_det.data.annotations.datasets`, which alone knows Detectron2.
"""
