"""The plan of a run: configuration, cases, blocks, and the time estimate."""
