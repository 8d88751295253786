"""Giving up root, once the sockets are bound."""

import os
import pwd
from collections.abc import Sequence

from kinfolk.kit.ending import WrongSetting


def become(user: str, *folders: str) -> None:
    """Give up root for `user`, who gets the folders. Raises WrongSetting."""
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise WrongSetting(f"--user {user}: there is no such user") from None
    if os.geteuid() == entry.pw_uid:
        return
    if os.geteuid() != 0:
        raise WrongSetting(f"--user {user}: only root can become another user")
    _give_up_root(entry, folders)  # pragma: no cover  # as below


def _give_up_root(
    entry: pwd.struct_passwd, folders: Sequence[str]
) -> None:  # pragma: no cover  # who has done it may not write down what was measured
    for folder in folders:
        os.chown(folder, entry.pw_uid, entry.pw_gid)
    os.initgroups(entry.pw_name, entry.pw_gid)
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)
    # asyncpg looks for certificates at home, and root's is closed
    os.environ |= {"HOME": entry.pw_dir, "USER": entry.pw_name, "LOGNAME": entry.pw_name}
