"""What the supervisor tells the person in front of it: a line for the eye, or a JSON object."""

import json
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TextIO

WIDTH = 12


class Say:
    """The one voice of the supervisor."""

    def __init__(self, *, as_json: bool, out: TextIO | None = None) -> None:
        self._json = as_json
        self._out = out or sys.stdout

    def __call__(self, event: str, who: str, text: str, **fields: object) -> None:
        """Tell that `event` happened to `who`; a reader who has gone is no reason to stop."""
        if self._json:
            at = datetime.now(UTC).isoformat(timespec="milliseconds")
            line = json.dumps({"at": at, "event": event, "who": who, "text": text, **fields})
        else:
            line = f"  {who:<{WIDTH}} {text}"
        self._write(line)

    def lines(self, event: str, who: str, lines: Iterable[str]) -> None:
        """Show lines of a log."""
        if self._json:
            self(event, who, "the end of the log", lines=list(lines))
            return
        for line in lines:
            self._write(f"  {who:<{WIDTH}} | {line}")

    def _write(self, line: str) -> None:
        try:
            print(line, file=self._out, flush=True)
        except OSError:
            self._out = _Nowhere()


class _Nowhere(TextIO):
    def write(self, _text: str, /) -> int:
        return 0

    def flush(self) -> None:
        return
