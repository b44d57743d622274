"""Benchmarks that run by themselves: what is to run when, the units for a machine's scheduler, one such night."""
