"""Presentation: tables and pictures from statistics and result files."""
