"""SLURM: the scripts of a batch of jobs, their way into the queue, and the work of a job on its node."""
