"""Training loops: trainer, stages, checkpoints, launch."""
