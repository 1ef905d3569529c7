"""LVIS average precision, with and without Detectron2."""
