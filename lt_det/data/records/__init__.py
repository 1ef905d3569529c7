"""Training records: Detectron2's data set dicts, stored once and memory-mapped."""
