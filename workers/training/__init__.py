"""`python -m workers.training mend`: what `errata train mend` becomes."""
