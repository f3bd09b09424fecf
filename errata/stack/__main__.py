"""`python -m errata.stack`: what `errata up` becomes."""

import sys

from errata.errors import ErrataError
from errata.stack.bond import bind_to
from errata.stack.errors import ExtraMissing, StackError
from errata.stack.options import parse


def main() -> int:
    """Run the stack; say in one line why it cannot run."""
    options = parse(sys.argv[1:])
    try:
        try:
            from errata.stack.supervisor import Supervisor  # noqa: PLC0415 - may lack packages
        except ModuleNotFoundError as error:
            raise ExtraMissing(error.name or str(error)) from error
        if options.parent is not None:
            bind_to(options.parent)
        Supervisor(options).run()
    except (StackError, ErrataError, OSError) as error:
        sys.stderr.write(f"errata up: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
