"""`python -m services.scanner`: the scanner as a process of its own."""

from services.scanner.app import ScannerApp
from services.scanner.settings import ScannerSettings
from services.shared.runner import main
from services.shared.settings import load

if __name__ == "__main__":
    main("scanner", 4578, lambda host: ScannerApp(host, load(ScannerSettings, "ROADSTEAD_SCANNER_")))
