"""Malformed input, made in code, and the doors that it knocks at."""
