"""`python -m services.edge`: the edge as a process of its own."""

from services.edge.app import EdgeApp
from services.edge.settings import EdgeSettings
from services.shared.runner import main
from services.shared.settings import load

if __name__ == "__main__":
    main("edge", 4566, lambda host: EdgeApp(host, load(EdgeSettings, "ROADSTEAD_EDGE_")))
