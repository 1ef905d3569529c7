"""Loading: training, meta and test batches as a pure function of seed and position."""
