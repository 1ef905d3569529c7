"""Load training, meta and test batches, each a pure function of seed and position."""
