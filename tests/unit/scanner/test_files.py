"""What is kept of layers."""

import os

from services.scanner.adapters.files import Files


def test_what_is_kept_of_layers_stays_bounded_while_the_scanner_runs(tmp_path):
    files = Files(tmp_path, layer_bytes=1000)
    for number in range(40):
        files.keep_layer(f"sha256:{number:064x}", b"x" * 100)
        os.utime(tmp_path / "layers" / f"{number:064x}.json", (number, number))
    kept = sum(path.stat().st_size for path in (tmp_path / "layers").iterdir())
    assert 1000 <= kept <= 1300
    assert files.layer(f"sha256:{39:064x}") is not None
    assert files.layer(f"sha256:{0:064x}") is None
