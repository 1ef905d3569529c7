"""Accuracy of image classifiers and of language models."""
