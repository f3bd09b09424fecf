"""Who the embedded servers run as. Postgres refuses to run as root, so root lends them a name."""

import os
import pwd
from dataclasses import dataclass
from pathlib import Path

from errata.stack.errors import StackError

CANDIDATES = ("postgres", "nobody", "daemon")


@dataclass(frozen=True, slots=True)
class Account:
    """An unprivileged user that a root process drops to."""

    name: str
    user: int
    group: int


def account_for(folder: Path) -> Account | None:
    """Give the account for servers whose files lie in `folder`; None when we are not root."""
    if os.geteuid() != 0:
        return None
    if folder.exists() and (owner := folder.stat()).st_uid != 0:
        # The data knows its owner. Another choice would lock Postgres out of its own files.
        return Account(_name(owner.st_uid), owner.st_uid, owner.st_gid)
    for name in CANDIDATES:
        try:
            found = pwd.getpwnam(name)
        except KeyError:
            continue
        if found.pw_uid != 0:
            return Account(found.pw_name, found.pw_uid, found.pw_gid)
    message = "Postgres cannot run as root and no user 'nobody' exists; run as a plain user."
    raise StackError(message)


def own(folder: Path, account: Account | None) -> None:
    """Create `folder` with mode 0700 for the account that will live in it."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if account is not None:
        os.chown(folder, account.user, account.group)
    folder.chmod(0o700)


def _name(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)
