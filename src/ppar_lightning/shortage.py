"""Shortages of the machine: what ran out, recognised in an error of any library, and what the user can do about it."""

import errno
import re
from collections.abc import Iterator, Sequence

from ppar_lightning.disk.files import NO_SPACE

Shortage = tuple[str, re.Pattern[str], Sequence[int], str]
"""What is short, a pattern of the messages that libraries write then, the numbers of an OSError, and the remedy.

The pattern is compiled here, before the memory is short.
"""

SHORTAGES: Sequence[Shortage] = (
    (
        "too few open files are allowed",
        re.compile(r"(?i)too many open files|items of ancdata|exit code 24\b"),
        (errno.EMFILE, errno.ENFILE),
        "set --data.workers 0, or raise the limit with `ulimit -n 4096`",
    ),
    (
        "shared memory is too small",
        re.compile(r"(?i)shared memory|device in /dev/shm|</torch_|signal: Bus error|exit code 2[78]\b"),
        (),
        "set --data.workers 0, or enlarge /dev/shm, in Docker with --shm-size 8g",
    ),
    (
        "the disk is full",
        re.compile(r"(?i)PytorchStreamWriter failed|No usable temporary directory"),
        NO_SPACE,
        "free some space, or move the run folder to another disk; --ckpt_path last continues a run",
    ),
    (
        "not enough memory",
        re.compile(
            r"(?i)out of memory|ca(n't|nnot) allocate|MemoryError|insufficient memory|unable to allocate|ALLOC_FAILED"
            r"|could not create a primitive|signal: Killed|exit code 12\b|terminated abruptly"
        ),
        (errno.ENOMEM,),
        "",  # it depends on the subcommand
    ),
)
"""In the order in which they are looked for, because a message about shared memory may also say `cannot allocate`."""

LESS_MEMORY = {
    "fit": "lower --data.batch_size, --data.crop or --data.workers",
    "predict": "lower --data.workers, or give smaller windows with --data.window '{size: 512, stride: 384}'",
    "export": "give smaller sizes to --benchmark, and another file with --output",
    "report": "lower --images, or close other programs",
}
"""Subcommand -> remedy for too little memory."""
LESS_MEMORY |= {"doctor": LESS_MEMORY["fit"]}
LESS_MEMORY |= dict.fromkeys(("validate", "test"), f"lower --data.eval_batch_size, {LESS_MEMORY['predict']}")


def shortage(error: BaseException, command: str = "") -> str | None:
    """Say in one line what the machine has too little of; None if the error does not mean that.

    Args:
        error: An error of any kind. An error that led to it counts too, as does one whose traceback a worker sent.
        command: The subcommand that raised it.
    """
    for each in causes(error):
        for what, signs, numbers, remedy in SHORTAGES:
            said = next(filter(signs.search, ends(each)), None)
            if said or (isinstance(each, OSError) and each.errno in numbers):
                memory = LESS_MEMORY.get(command, "close other programs, or use a larger machine")
                sentences = (said or str(each)).split(". ")[:2]
                return f"{what} ({'. '.join(sentences).rstrip(': .')}): {remedy or memory}"
    return None


def ends(error: BaseException) -> tuple[str, ...]:
    """Return the last and the first line of an error; between them may be a traceback, which quotes code and paths.

    An error that this package raises, or that names a file, has none: what it quotes may be any name of a folder.
    """
    lines = f"{type(error).__name__}: {error}".strip().splitlines()
    if "in DataLoader worker process" in lines[0]:  # where an error of any kind is sent as text
        return re.sub("/.*/", "", lines[-1]), lines[0]
    named = isinstance(error, OSError) and (error.errno is None or error.filename is not None)
    return () if named or isinstance(error, ValueError) else (lines[-1], lines[0])


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and those that led to it, up to an OSError of this package, whose message names a remedy."""
    while error is not None:
        yield error
        own = isinstance(error, OSError) and error.errno is None
        error = None if own else error.__cause__ or error.__context__
