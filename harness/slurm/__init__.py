"""SLURM: the scripts of a submission, their way into the queue, and the work of a job on its node."""
