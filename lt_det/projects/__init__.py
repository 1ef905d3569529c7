"""Projects: the recipe of a training, made from the data, the machine and the time."""
