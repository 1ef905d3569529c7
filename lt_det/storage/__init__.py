"""Files: written whole or not at all, locked, hashed, cached, and read without trusting them.

The lowest layer: every other one may import it.
"""
