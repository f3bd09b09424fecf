"""`errata data`: public benchmarks, fetched from where their authors keep them."""

import hashlib
from pathlib import Path
from typing import Annotated

import httpx
import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from editing.datasets.catalogue import DATASETS, Dataset
from errata.cli.common import FAILED, AsJson, console, put_json
from errata.cli.eval_tables import table
from errata.places import benchmark_folder

data = typer.Typer(no_args_is_help=True, help="Benchmarks: what there is, and fetching one.")
_CHUNK = 1 << 16
_RANGE_DONE, _PARTIAL = 416, 206

Folder = Annotated[
    Path | None,
    typer.Option(
        "--folder", help="Where benchmarks lie. [default: ERRATA_DATA, or this user's own]"
    ),
]


class Unusable(Exception):
    """What was fetched is not what it should be, or cannot be had."""


@data.command("ls")
def ls(folder: Folder = None, as_json: AsJson = False) -> None:
    """List the benchmarks, and which of them are here."""
    place = folder or benchmark_folder()
    if as_json:
        put_json({"data": [_told(each, place) for each in DATASETS.values()]})
        return
    made = table("dataset", "here", "licence", "paper", "what it is")
    for each in DATASETS.values():
        found = _here(each, place)
        made.add_row(each.name, str(found) if found else "", each.licence, each.source, each.title)
    console().print(made)


@data.command("get")
def get(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="See `errata data ls`.")],
    *,
    folder: Folder = None,
) -> None:
    """Fetch benchmarks; an interrupted download goes on where it was.

    The checksum of every file is written down beside it: a later fetch must give the same bytes.
    """
    out, place = console(stderr=True), folder or benchmark_folder()
    for name in names:
        if name not in DATASETS:
            raise typer.BadParameter(f"{name!r} is none of {', '.join(DATASETS)}")
        known = DATASETS[name]
        if not known.urls:
            out.print(f"errata: {name} has no public address here. {known.note}", markup=False)
            raise typer.Exit(FAILED)
        out.print(f"{known.title}: {known.source}, licence {known.licence}", markup=False)
        for part, url in known.urls.items():
            target = place / known.files[0] / part if part else place / known.files[0]
            try:
                digest = fetch(url, target, expected=(known.sha256 or {}).get(part))
            except (Unusable, httpx.HTTPError, OSError) as error:
                out.print(f"errata: {url}: {error}", markup=False, soft_wrap=True)
                raise typer.Exit(FAILED) from error
            print(f"{digest}  {target}")


def fetch(
    url: str,
    target: Path,
    *,
    expected: str | None = None,
    transport: httpx.BaseTransport | None = None,
) -> str:
    """Bring a file here, whole or not at all, and give its sha256. Raises Unusable.

    What was fetched of it before is kept in a file beside it and gone on with.
    """
    noted = target.with_name(f"{target.name}.sha256")
    expected = expected or (noted.read_text().split()[0] if noted.exists() else None)
    if target.exists() and (expected is None or _sha256(target) == expected):
        return _sha256(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part")
    with httpx.Client(follow_redirects=True, timeout=60, transport=transport) as http:
        _download(http, url, part)
    digest = _sha256(part)
    if expected is not None and digest != expected:
        part.unlink()
        raise Unusable(f"its sha256 is {digest}, and should be {expected}. Fetch it again.")
    part.replace(target)
    noted.write_text(f"{digest}  {target.name}\n")
    return digest


def _download(http: httpx.Client, url: str, part: Path) -> None:
    have = part.stat().st_size if part.exists() else 0
    # As it lies there: a packed answer would have other bytes, and other places to go on from.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with http.stream("GET", url, headers=headers) as response, _bar() as bar:
        if response.status_code == _RANGE_DONE:  # all of it was here already
            whole = response.headers.get("content-range", "").rpartition("/")[2]
            if whole.isdecimal() and int(whole) != have:
                part.unlink()
                raise Unusable("what was fetched before is of another file. Fetch it again.")
            return
        response.raise_for_status()
        goes_on = response.status_code == _PARTIAL
        size = int(response.headers.get("content-length", 0)) + (have if goes_on else 0)
        task = bar.add_task(part.stem, total=size or None, completed=have if goes_on else 0)
        with part.open("ab" if goes_on else "wb") as file:
            for chunk in response.iter_bytes(_CHUNK):
                file.write(chunk)
                bar.advance(task, len(chunk))


def _bar() -> Progress:
    out = console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    return Progress(
        *columns, TransferSpeedColumn(), console=out, transient=True, disable=not out.is_terminal
    )


def _here(known: Dataset, place: Path) -> Path | None:
    return next((place / name for name in known.files if (place / name).exists()), None)


def _told(known: Dataset, place: Path) -> dict[str, object]:
    found = _here(known, place)
    return {
        "name": known.name,
        "title": known.title,
        "source": known.source,
        "licence": known.licence,
        "urls": list(known.urls.values()),
        "note": known.note,
        "path": str(found) if found else None,
    }


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
