"""`python -m services.monitor`: the monitor as a process of its own."""

from services.monitor.app import MonitorApp
from services.monitor.settings import MonitorSettings
from services.shared.runner import main
from services.shared.settings import load

if __name__ == "__main__":
    main("monitor", 4576, lambda host: MonitorApp(host, load(MonitorSettings, "ROADSTEAD_MONITOR_")))
