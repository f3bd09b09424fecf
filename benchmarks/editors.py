"""Compare all editors on the same records of CounterFact: what each does, moves, takes and costs.

Mode `single` edits each record alone, from base; `sequence` keeps each edit and makes the next on
it; `batch` writes all in one solve. Every row is made in a process of its own. What is finished is
kept below --out: the same command goes on where it was interrupted, by whatever. At the end the
table is printed, and written as text, CSV, JSON and PNG.

    python -m benchmarks.editors --data DIR [--model NAME] [--records 32] [--offset 0]
        [--methods rome,memit] [--modes single,sequence,batch] [--hparams JSON] [--out FOLDER]
        [--report] [--redo]
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.common import parser, read
from benchmarks.editor_run import AGAIN
from benchmarks.progress import Progress
from benchmarks.table import Table, table_of, text_of, write
from benchmarks.task import MODES, Task, tasks
from editing.catalogue import METHODS
from editing.source import parse_source, source_name


def main() -> None:
    """Make the rows that are missing, then the table."""
    made = arguments()
    args = read(made)
    wanted = asked(made, args)
    try:
        errors = {} if args.report else carry_out(wanted)
    except KeyboardInterrupt:
        sys.exit("Interrupted. Nothing that is done is lost: the same command goes on from here.")
    table = table_of(wanted, errors)
    header = header_of(table, wanted[0])
    print(text_of(table, header))
    for name, error in errors.items():
        print(f"{name} failed: {error} (log: {log_of(wanted[0], name)})")
    for path in output(table, header, wanted[0]):
        print(f"wrote {path}")


def arguments() -> argparse.ArgumentParser:
    """What can be asked for."""
    made = parser(__doc__, records=32)
    made.add_argument("--methods", default=",".join(METHODS))
    made.add_argument("--modes", default="single,sequence", help=f"of {', '.join(MODES)}")
    made.add_argument("--hparams", default="{}", help="JSON overrides, for every method")
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--out", help="where results are kept (default: bench in the cache)")
    made.add_argument("--report", action="store_true", help="only the table of what is done")
    made.add_argument("--redo", action="store_true", help="do again what other code has made")
    return made


def asked(made: argparse.ArgumentParser, args: argparse.Namespace) -> list[Task]:
    """The rows that the arguments name; what cannot be is refused before anything runs."""
    methods, modes = (list(dict.fromkeys(t.split(","))) for t in (args.methods, args.modes))
    for given, known in ((methods, METHODS), (modes, MODES)):
        if unknown := [name for name in given if name not in known]:
            made.error(f"{', '.join(unknown)} is none of {', '.join(known)}")
    try:
        overrides = json.loads(args.hparams)
    except ValueError as error:
        made.error(f"--hparams is no JSON: {error}")
    if not isinstance(overrides, dict):
        made.error("--hparams must be a JSON object")
    base = Task(
        model=args.model,
        data=args.data,
        offset=args.offset,
        records=args.records,
        hparams=overrides,
        cache=args.cache,
        out=args.out or str(Path(args.cache) / "bench"),
        threads=args.threads,
        seed=args.seed,
        redo=args.redo,
    )
    return tasks(base, methods, modes)


def carry_out(wanted: Sequence[Task]) -> dict[str, str]:
    """Make all rows, one process after another; the errors of those that failed, by name."""
    progress = Progress([task.pieces(len(task.requests())) for task in wanted], sys.stderr)
    errors: dict[str, str] = {}
    for task in wanted:
        progress.begin(task.name)
        if finished(task, wanted[0]):
            progress.tell(task.pieces(len(task.requests())))
            continue
        status, error = in_a_child(task, progress)
        if status == AGAIN:
            status, error = in_a_child(task, progress)
        progress.close()
        if status:
            errors[task.name] = error or f"its process ended with status {status}"
            progress.say(f"{task.name} failed: {errors[task.name]}")
    return errors


def finished(task: Task, unedited: Task) -> bool:
    """Whether nothing is to do for a row, now that the unedited model was loaded and looked at."""
    if task == unedited:
        return False
    row = table_of([unedited, task], {}).rows[1]
    return row["done"] == row["of"] and not row["stale"]


def in_a_child(task: Task, progress: Progress) -> tuple[int, str]:
    """Run a task in a process that dies with this one; its exit status, and what it said of it."""
    command = [sys.executable, "-m", "benchmarks.editor_run", task.to_json(), str(os.getpid())]
    log = log_of(task, task.name)
    log.parent.mkdir(parents=True, exist_ok=True)
    error = ""
    with (
        log.open("w") as errors,
        subprocess.Popen(  # noqa: S603 - our own module
            command,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": str(task.threads)},
        ) as child,
    ):
        assert child.stdout
        for line in child.stdout:
            event = json.loads(line)
            error = event.get("error", error)
            progress.tell(event.get("done"), event.get("step", ""))
    return child.returncode, error


def log_of(task: Task, name: str) -> Path:
    """Where everything lies that the process of a row has printed."""
    return Path(task.out) / "logs" / f"{name.replace(' ', '.')}.log"


def header_of(table: Table, task: Task) -> str:
    """What the numbers depend on, and the command that makes them again."""
    about = table.about
    last = task.offset + len(task.requests()) - 1
    parts = [f"model {task.model}"]
    if about:
        parts[0] += f" {about['fingerprint'][:23]}"
        parts += [f"{about['dtype']} on {about['device']}", f"torch {about['torch']}"]
    parts += [f"records {task.offset}..{last}", f"threads {task.threads}", f"seed {task.seed}"]
    return f"{'  '.join(parts)}\npython -m benchmarks.editors {shlex.join(sys.argv[1:])}"


def output(table: Table, header: str, task: Task) -> list[Path]:
    """Write everything that a reader or a program may want."""
    name = source_name(parse_source(task.model))
    stem = Path(task.out) / f"editors-{name}"
    stem.parent.mkdir(parents=True, exist_ok=True)
    paths = write(table, header, stem)
    try:
        from benchmarks.figure import draw  # noqa: PLC0415 - a table needs no matplotlib
    except ImportError:
        print("no picture: it needs matplotlib (pip install -e '.[bench]')", file=sys.stderr)
        return paths
    picture = stem.with_suffix(".png")
    count = next((row["n"] for row in table.rows if "n" in row), 0)
    title = f"{name}, {count} records of CounterFact"
    return [*paths, picture] if draw(table.rows, title, picture) else paths


if __name__ == "__main__":
    main()
