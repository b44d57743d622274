"""What the engines of Cellpose 3 and 4 share; no engine itself."""
