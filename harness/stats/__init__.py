"""Rules of judgement: comparisons and alarms. Arrays in, dataclasses out; no files, no SQL."""
