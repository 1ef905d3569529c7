"""Command line: ``lt-det COMMAND ...``, each command in a file of its own."""
