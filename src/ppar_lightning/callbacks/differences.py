"""What differs between the machine that trained a run and the one that tests it."""

from collections.abc import Iterator, Mapping
from typing import Any


def differences(manifest: Mapping[str, Any], session: Mapping[str, Any], data: Mapping[str, Any]) -> Iterator[str]:
    """Compare the last session of a training with this one, a line each.

    Args:
        manifest: Of the run folder.
        session: This process, see :func:`~ppar_lightning.callbacks.manifest.new_session`.
        data: Fingerprints of this machine's data by split, see ``DomainDataModule.fingerprints``.
    """
    trained = manifest["sessions"][-1]
    yield from compare("hardware", trained.get("hardware"), session["hardware"])
    yield from compare("git revision", trained.get("git"), session["git"])
    yield from compare("config.yaml", trained.get("config"), session["config"])
    for package, now in session["versions"].items():
        yield from compare(package, trained.get("versions", {}).get(package), now)
    for split, now in data.items():
        before = manifest.get("data", {}).get(split, now)  # a domain that training did not open
        if before != now:
            yield from compare(f"images of {split}", before["images"], now["images"])
            if before["images"] == now["images"]:
                yield f"images of {split}: as many as in training, but of other names or sizes"


def compare(name: str, before: object, now: object) -> Iterator[str]:
    """One line if two values differ."""
    if before != now:
        yield f"{name}: {before if before is not None else 'not recorded'} in training, {now} now"
