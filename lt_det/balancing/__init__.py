"""Balance: from a trained detector to one that finds the rare classes, chosen honestly."""
