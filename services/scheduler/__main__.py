"""`python -m services.scheduler`: the scheduler as a process of its own."""

from services.scheduler.app import SchedulerApp
from services.scheduler.settings import SchedulerSettings
from services.shared.runner import main
from services.shared.settings import load

if __name__ == "__main__":
    main("scheduler", 4572, lambda host: SchedulerApp(host, load(SchedulerSettings, "ROADSTEAD_SCHEDULER_")))
