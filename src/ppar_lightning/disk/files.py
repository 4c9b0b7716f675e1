"""Files that are written whole or not at all."""

import errno
import os
from pathlib import Path
from uuid import uuid4

NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Error numbers of a full disk, an exhausted quota and a file that has reached its largest size."""


def write_whole(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, and create its folder.

    The content goes to a partial file beside it, which no other process shares and which then replaces the file. If
    writing fails, an existing file is unchanged and no partial file is left.

    Raises:
        OSError: The file cannot be written; kind and number of the error are those of the cause.
    """
    partial = path.with_name(f".{path.name}.{uuid4().hex}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # otherwise a crash may leave an empty file of that name
        partial.replace(path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        if partial.exists():
            partial.unlink()
