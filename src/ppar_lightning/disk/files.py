"""Files that are written whole or not at all."""

import errno
import os
from pathlib import Path
from uuid import uuid4

NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""The disk, the user's share of it or what a file may take is full."""


def write_whole(path: Path, content: bytes) -> None:
    """Write a file, and its folder, through a partial file beside it that no other process shares.

    Where that fails, the file is as it was and nothing else is left.

    Raises:
        OSError: It cannot be written, of the kind and with the number of its cause.
    """
    partial = path.with_name(f".{path.name}.{uuid4().hex}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # or else a crash may leave an empty file under the name
        partial.replace(path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        if partial.exists():
            partial.unlink()
