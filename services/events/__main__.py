"""`python -m services.events`: webhooks as a process of their own."""

from services.events.app import EventsApp
from services.events.settings import EventsSettings
from services.shared.runner import main
from services.shared.settings import load

if __name__ == "__main__":
    main("events", 4581, lambda host: EventsApp(host, load(EventsSettings, "ROADSTEAD_EVENTS_")))
