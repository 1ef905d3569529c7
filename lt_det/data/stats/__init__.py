"""Class statistics: how often each class occurs in a training set."""
