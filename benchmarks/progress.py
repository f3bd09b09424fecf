"""A line that says how far a long benchmark is: rewritten on a terminal, else now and then."""

import shutil
import time
from collections.abc import Callable, Sequence
from typing import TextIO

_EVERY_S = 10.0  # between two lines where nothing can be rewritten


class Progress:
    """Rows one after another, each of some pieces; rates count what was done since the start."""

    def __init__(
        self, pieces: Sequence[int], stream: TextIO, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._pieces, self._stream, self._now = pieces, stream, now
        self._row, self._label = -1, ""
        self._began = self._row_began = self._spoke = now()
        self._done = self._row_found = 0  # pieces of this row: all, and those of earlier runs
        self._found: int | None = None
        self._made = 0  # by rows before this one
        self._open = False  # whether a line waits to be rewritten

    def begin(self, label: str) -> None:
        """Go on to the next row."""
        self._made += self._done - (self._found or 0)
        self._row, self._label = self._row + 1, label
        self._row_began, self._done, self._found = self._now(), 0, None

    def tell(self, done: int | None = None, detail: str = "") -> None:
        """So many pieces of this row are done; or some work on the next one is."""
        if done is not None:
            self._found = done if self._found is None else self._found
            self._done = done
        line = self._line(detail)
        if self._stream.isatty():
            width = shutil.get_terminal_size().columns - 1
            self._stream.write(f"\r\x1b[K{line[:width]}")
            self._stream.flush()
            self._open = True
        elif self._now() - self._spoke >= _EVERY_S:
            self._spoke = self._now()
            print(line, file=self._stream, flush=True)

    def say(self, text: str) -> None:
        """Print something that stays."""
        self.close()
        print(text, file=self._stream, flush=True)

    def close(self) -> None:
        """Leave the line that was rewritten."""
        if self._open:
            self._stream.write("\r\x1b[K")
            self._open = False

    def _line(self, detail: str) -> str:
        now = self._now()
        mine = self._done - (self._found or 0)
        here = mine / max(now - self._row_began, 1e-9)
        over_all = (self._made + mine) / max(now - self._began, 1e-9)
        left = self._pieces[self._row] - self._done
        later = sum(self._pieces[self._row + 1 :])
        rate = f"{here:.2f}/s, {clock(left / here)} left" if mine else "no rate yet"
        whole = f", about {clock((left + later) / over_all)} in all" if over_all else ""
        return (
            f"[{self._row + 1}/{len(self._pieces)}] {self._label}: "
            f"{self._done}/{self._pieces[self._row]}  {rate}{whole}  {detail}"
        )


def clock(seconds: float) -> str:
    """Seconds as 1h02m, 3m05s or 7s."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes:02}m"
    return f"{minutes}m{rest:02}s" if minutes else f"{rest}s"
