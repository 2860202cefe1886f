"""Settings of the scanner (`ROADSTEAD_SCANNER_…`)."""

import msgspec


class ScannerSettings(msgspec.Struct, kw_only=True, frozen=True):
    """`advisories` is a file or folder of OSV records that is imported at the start, when it is not what was imported
    last; empty: none. `registry` is the registry's URL as it is reached from here; empty: the one that agents are told.

    `feeds` are folders or URLs with a `modified_id.csv`, separated by commas, of which what is new is taken in at the
    start and every `update_minutes` (0: never), beside the feeds that were once named to `roadstead advisories update`.

    What one layer may cost: `layer_unpacked_mib` of tar, `layer_entries` entries in it, `layer_file_mib` for one file
    that is read, `layer_seconds` of processor time, `worker_memory_mib` of address space. `scans` images are scanned at
    once, in at most `workers` processes. `layer_cache_mib` bounds the reports of layers that are kept on disk. `sbom`:
    bills of materials are put beside each image that was scanned, as its referrers.
    """

    advisories: str = ""
    feeds: str = ""
    update_minutes: float = 60.0
    registry: str = ""
    scans: int = 4
    workers: int = 2
    layer_unpacked_mib: int = 8192
    layer_entries: int = 2_000_000
    layer_file_mib: int = 64
    layer_seconds: int = 120
    worker_memory_mib: int = 1024
    layer_cache_mib: int = 256
    sbom: bool = True
