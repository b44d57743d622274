"""Facts about this machine, and what else goes on there while something is measured."""
