"""What differs between the machine that trained a run and the one that tests it."""

from collections.abc import Iterator, Mapping
from typing import Any


def differences(
    manifest: Mapping[str, Any] | None,
    earlier: Mapping[str, Any] | None,
    session: Mapping[str, Any],
    data: Mapping[str, Any],
) -> Iterator[str]:
    """Compare a training, and the test before, with this test, a line each.

    Args:
        manifest: Of the run folder, if there is one.
        earlier: ``test.json`` that is about to be replaced, if there is one; training opens no unseen domain.
        session: This process, see :func:`~ppar_lightning.callbacks.provenance.new_session`.
        data: Fingerprints of this machine's data by split, see ``DomainDataModule.fingerprints``.
    """
    if manifest is not None and manifest["sessions"]:
        trained = manifest["sessions"][-1]
        yield from compare("hardware", trained.get("hardware"), session["hardware"])
        yield from compare("git revision", trained.get("git"), session["git"])
        yield from compare("config.yaml", trained.get("config"), session["config"])
        for package, now in session["versions"].items():
            yield from compare(package, trained.get("versions", {}).get(package), now)
    trained_data, tested_data = ((record or {}).get("data", {}) for record in (manifest, earlier))
    for split, now in data.items():
        if split in trained_data:
            yield from compare_data(split, trained_data[split], now, "training")
        elif split in tested_data:
            yield from compare_data(split, tested_data[split], now, "the test before")


def compare(name: str, before: object, now: object, where: str = "training") -> Iterator[str]:
    """One line if two values differ."""
    if before != now:
        yield f"{name}: {before if before is not None else 'not recorded'} in {where}, {now} now"


def compare_data(split: str, before: Mapping[str, Any], now: Mapping[str, Any], where: str) -> Iterator[str]:
    """One line if two fingerprints differ."""
    yield from compare(f"images of {split}", before["images"], now["images"], where)
    if before["images"] == now["images"] and before != now:
        yield f"images of {split}: as many as in {where}, but of other names or sizes"
