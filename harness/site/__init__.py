"""The static site of the reference set: what was submitted for each kind of hardware, and the SQL behind each table."""
