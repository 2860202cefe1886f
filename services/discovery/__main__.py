"""`python -m services.discovery`: discovery as a process of its own."""

from services.discovery.app import DiscoveryApp
from services.discovery.settings import DiscoverySettings
from services.shared.runner import main
from services.shared.settings import load

if __name__ == "__main__":
    main("discovery", 4577, lambda host: DiscoveryApp(host, load(DiscoverySettings, "ROADSTEAD_DISCOVERY_")))
