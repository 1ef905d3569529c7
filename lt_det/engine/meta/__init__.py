"""Meta learning in the training loop: its batches and its step."""
