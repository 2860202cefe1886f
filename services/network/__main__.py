"""`python -m services.network`: the network service as a process of its own."""

from services.network.app import NetworkApp
from services.network.settings import NetworkSettings
from services.shared.runner import main
from services.shared.settings import load

if __name__ == "__main__":
    main("network", 4582, lambda host: NetworkApp(host, load(NetworkSettings, "ROADSTEAD_NETWORK_")))
