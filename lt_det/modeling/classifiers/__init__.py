"""Classifiers: layers, image classifier, post-hoc corrections, decoupled training."""
