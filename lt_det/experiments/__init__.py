"""Experiments: several runs with a table at the end."""
