"""Scheduled benchmarks: their definition, the units for a machine's scheduler, the steps of a night."""
