"""The stack: Postgres, Valkey, the API and the workers on one machine, from installed wheels.

`python -m errata.stack` is the supervisor that `errata up` starts. Nothing that a client imports
may import from here.
"""
