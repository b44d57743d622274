"""The shared parts of the engines of Cellpose 3 and 4; not an engine itself."""
