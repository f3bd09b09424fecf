"""Where the sockets of the embedded servers lie. The kernel allows 107 characters for a path."""

import hashlib
import os
import tempfile
from contextlib import suppress
from pathlib import Path

from errata.stack.account import Account, own
from errata.stack.errors import DataFolderUnusable

LONGEST = 99


def socket_folder(folder: Path, name: str, account: Account | None) -> Path:
    """Give `folder` itself, or a short stand-in when a socket `name` in it were too long."""
    if len(str(folder / name)) <= LONGEST:
        return folder
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]
    short = Path(tempfile.gettempdir()) / f"errata-{os.geteuid()}-{digest}"
    if short.is_symlink() or (short.exists() and short.stat().st_uid != _owner(account)):
        message = f"{short} belongs to somebody else; use a shorter --data-dir."
        raise DataFolderUnusable(message)
    own(short, account)
    return short


def leave(folder: Path, sockets: Path) -> None:
    """Remove the stand-in of `folder`, if there is one and nobody uses it."""
    if sockets != folder:
        with suppress(OSError):
            sockets.rmdir()


def _owner(account: Account | None) -> int:
    return account.user if account else os.geteuid()
