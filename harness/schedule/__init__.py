"""Benchmarks that run by themselves: what is to run when, the units for this machine's scheduler, and one such night."""
