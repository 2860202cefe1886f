"""`python -m services.registry`: the registry as a process of its own."""

from services.registry.app import RegistryApp
from services.registry.settings import RegistrySettings
from services.shared.runner import main
from services.shared.settings import load

if __name__ == "__main__":
    main("registry", 5000, lambda host: RegistryApp(host, load(RegistrySettings, "ROADSTEAD_REGISTRY_")))
