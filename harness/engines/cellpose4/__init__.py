"""Cellpose 4: Cellpose-SAM, behind the seam of engines/base.py."""
