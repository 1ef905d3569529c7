"""Inspection of data sets before a training: everything that is wrong with them, at once."""
