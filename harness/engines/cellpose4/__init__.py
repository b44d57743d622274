"""Cellpose 4: Cellpose-SAM, behind the interface of engines/base.py."""
