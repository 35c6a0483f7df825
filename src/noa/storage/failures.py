"""What a failure of the disk or of SQLite means, in a sentence for whoever runs Noa."""

from __future__ import annotations

import errno
import sqlite3
from enum import StrEnum

from noa.errors import ConfigurationError, StorageError

DiskFailure = OSError | sqlite3.Error


class Cause(StrEnum):
    """Why a file could not be used; the value ends the sentence that begins with what was tried."""

    FULL = "the disk is full; free some space and try again."
    DENIED = "this user may not write there; give it the right to, or choose another folder (NOA_HOME)."
    NO_FILE = "its path leads to no file, but to or through something else; choose another path."
    BUSY = "another program holds a lock on it; close that program and try again."
    DAMAGED = "the file is damaged; restart Noa, which sets it aside and starts a fresh one."
    OTHER = "the system refused"


class DamagedDatabaseError(sqlite3.DatabaseError):
    """SQLite opened the file, but its check found damage."""


_BY_ERRNO = {
    errno.ENOSPC: Cause.FULL,
    errno.EDQUOT: Cause.FULL,
    errno.EACCES: Cause.DENIED,
    errno.EPERM: Cause.DENIED,
    errno.EROFS: Cause.DENIED,
    errno.ENOTDIR: Cause.NO_FILE,
    errno.EEXIST: Cause.NO_FILE,
    errno.EISDIR: Cause.NO_FILE,
}

# Primary result codes: https://www.sqlite.org/rescode.html
_BY_SQLITE_CODE = {
    sqlite3.SQLITE_FULL: Cause.FULL,
    sqlite3.SQLITE_READONLY: Cause.DENIED,
    sqlite3.SQLITE_CANTOPEN: Cause.DENIED,
    sqlite3.SQLITE_PERM: Cause.DENIED,
    sqlite3.SQLITE_BUSY: Cause.BUSY,
    sqlite3.SQLITE_LOCKED: Cause.BUSY,
    sqlite3.SQLITE_CORRUPT: Cause.DAMAGED,
    sqlite3.SQLITE_NOTADB: Cause.DAMAGED,
}


def cause_of(error: DiskFailure) -> Cause:
    """Sort a failure by what can be done about it."""
    if isinstance(error, OSError):
        return _BY_ERRNO.get(error.errno or 0, Cause.OTHER)
    if isinstance(error, DamagedDatabaseError):
        return Cause.DAMAGED
    # The lowest byte of an extended code is its primary code; errors of the Python module itself carry none.
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return Cause.OTHER if code is None else _BY_SQLITE_CODE.get(code & 0xFF, Cause.OTHER)


def opening_failed(error: DiskFailure, what: str) -> ConfigurationError | StorageError:
    """The error to raise when ``what`` (a path, in words) cannot be used at all."""
    cause = cause_of(error)
    message = f"Noa cannot use {what}: {_end_of_sentence(error, cause)}"
    details = {"cause": cause.name.lower()}
    if cause in {Cause.DENIED, Cause.NO_FILE}:
        return ConfigurationError(message, details=details)
    return StorageError(message, details=details)


def writing_failed(error: DiskFailure, what: str) -> StorageError:
    """The error to raise when a change to ``what`` did not reach the disk, and so was not made."""
    cause = cause_of(error)
    message = f"The change was not made, because {what} could not be written: {_end_of_sentence(error, cause)}"
    return StorageError(message, details={"cause": cause.name.lower()})


def _end_of_sentence(error: DiskFailure, cause: Cause) -> str:
    if cause is not Cause.OTHER:
        return cause.value
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return f"{cause.value} ({reason})."
