"""Writing files so that a crash, a kill or a full disk leaves what was there before; one writer at a time."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

TEMPORARY = ".partial"  # suffix of files being written; what a killed writer leaves behind is removed by the next one


class LibraryError(RuntimeError):
    """A mesh library cannot be read or written; the message names the file, what was expected and what to do."""


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then put it in place. On LibraryError `path` is as it was."""
    temporary = path.with_name(path.name + TEMPORARY)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        _sync(temporary)
        os.replace(temporary, path)
        _sync(path.parent)
    except Exception as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) or "No space left" in str(error):  # safetensors wraps the system's error
            raise _not_written(path, error) from error
        raise


def append_durably(path: Path, text: str, begin: bool) -> None:
    """Add text at the end of a file (`begin`: of a new one in its place). On LibraryError a file added to is as it was."""
    try:
        with path.open("wb" if begin else "ab", buffering=0) as file:
            before, left = file.tell(), memoryview(text.encode())
            try:
                while left:
                    left = left[file.write(left) :]
                os.fsync(file.fileno())
            except BaseException:
                os.ftruncate(file.fileno(), before)
                if begin:
                    path.unlink(missing_ok=True)
                raise
        if begin:
            _sync(path.parent)
    except OSError as error:
        raise _not_written(path, error) from error


def _not_written(path: Path, error: Exception) -> LibraryError:
    return LibraryError(f"{path}: cannot be written ({_reason(error)}); what was there before is kept")


def _reason(error: Exception) -> str:
    if getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error):
        return "the disk is full: free some space, then run the same command again"
    return getattr(error, "strerror", None) or str(error)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_regular(root: Path, relative: str) -> Path:
    """The file `relative` of the folder `root`; raises LibraryError if missing, no plain file, or reached by a link."""
    path = root
    for part in Path(relative).parts:
        path = path / part
        try:
            mode = path.lstat().st_mode
        except OSError as error:
            raise LibraryError(f"{path}: the library lists this file but it is not there ({_reason(error)})") from error
        if stat.S_ISLNK(mode):
            raise LibraryError(f"{path}: is a symbolic link; a library's files must lie inside its own folder")
    if not stat.S_ISREG(mode):
        raise LibraryError(f"{path}: expected a plain file")
    return path


def regular_sizes(folder: Path) -> dict[str, int]:
    """Bytes of every plain file of a folder by its name; links are left out. One pass: a stat by path costs far more."""
    if folder.is_symlink() or not folder.is_dir():
        return {}
    with os.scandir(folder) as found:
        return {f.name: f.stat(follow_symlinks=False).st_size for f in found if f.is_file(follow_symlinks=False)}


@contextlib.contextmanager
def exclusive(root: Path) -> Iterator[None]:
    """Hold the library's lock, which ends with the process however that ends; LibraryError if another one has it."""
    try:
        file = (root / ".lock").open("w")
    except OSError as error:
        raise LibraryError(f"{root}: cannot be written to ({_reason(error)})") from error
    with file as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise LibraryError(f"{root}: another process is writing to this library; wait until it is done") from error
        yield
