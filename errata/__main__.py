"""`python -m errata` is the `errata` command."""

from errata.cli.main import main

main()
