"""What the registry does by itself."""

from services.registry.controllers.backfills import BackfillController
from services.registry.controllers.cleaning import Cleaner
from services.registry.controllers.images import ImageController
from services.registry.controllers.lifecycle import LifecycleController
from services.registry.controllers.pulls import PullWriter
from services.registry.controllers.sending import SendingController

__all__ = [
    "BackfillController",
    "Cleaner",
    "ImageController",
    "LifecycleController",
    "PullWriter",
    "SendingController",
]
