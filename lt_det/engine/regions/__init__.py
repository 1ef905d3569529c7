"""Region features: the frozen detector computes them once, and second stages train on them."""
