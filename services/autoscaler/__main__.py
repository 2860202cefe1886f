"""`python -m services.autoscaler`: the autoscaler as a process of its own."""

from services.autoscaler.app import AutoscalerApp
from services.autoscaler.settings import AutoscalerSettings
from services.shared.runner import main
from services.shared.settings import load

if __name__ == "__main__":
    main("autoscaler", 4579, lambda host: AutoscalerApp(host, load(AutoscalerSettings, "ROADSTEAD_AUTOSCALER_")))
