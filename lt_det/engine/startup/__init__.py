"""Start of a run: command line, config checks, processes and the record of the run."""
