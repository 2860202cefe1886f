"""Which images use which file: images of the same packages share them."""

from __future__ import annotations

from contracts.kinds import Key
from contracts.records.scanner import IMAGE_SCAN, ImageScan
from services.scanner.adapters.files import Files
from services.shared.state import Change, Store


class Uses:
    """Counts the images by their bill of materials and by their report."""

    def __init__(self, store: Store, files: Files) -> None:
        self._files = files
        self._bills: dict[str, set[Key]] = {}
        self._reports: dict[str, set[Key]] = {}
        self._pins: dict[Key, tuple[str, ...]] = {}
        for scan in store.table(IMAGE_SCAN).records():
            self._add(IMAGE_SCAN.key_of(scan), scan)
        store.listen(self._heard)

    def images(self, bill: str) -> list[Key]:
        """The images that have a bill of materials."""
        return sorted(self._bills.get(bill, ()))

    def bills(self) -> list[str]:
        """All bills of materials."""
        return list(self._bills)

    def pin(self, key: Key, *names: str) -> None:
        """An image is about to have these files; with none, it has them or has not got them."""
        self._pins.pop(key, None)
        if names:
            self._pins[key] = names

    def drop_unused(self, *scans: ImageScan) -> None:
        """Of the files that these had, drop those that no image has any more. It may run in a thread."""
        for scan in scans:
            pinned = {name for names in list(self._pins.values()) for name in names}
            if scan.report and scan.report not in self._reports and scan.report not in pinned:
                self._files.drop_report(scan.report)
            if scan.contents and scan.contents not in self._bills and scan.contents not in pinned:
                self._files.drop_bill(scan.contents)

    def _heard(self, change: Change) -> None:
        if change.kind is not IMAGE_SCAN:
            return
        if change.old is not None:
            for known, name in ((self._bills, change.old.record.contents), (self._reports, change.old.record.report)):
                if name in known:
                    known[name].discard(change.key)
                    if not known[name]:
                        del known[name]
        if change.new is not None:
            self._add(change.key, change.new.record)

    def _add(self, key: Key, scan: ImageScan) -> None:
        for known, name in ((self._bills, scan.contents), (self._reports, scan.report)):
            if name:
                known.setdefault(name, set()).add(key)
