"""Bilevel learning: class weights by gradient through one step of the classifier.

Torch only: knows parameters, features and losses, not detectors.
"""
