"""Samplers: which images are drawn how often."""
