"""One file = one benchmark. Foreign field names are translated here and nowhere else."""
