"""`python -m services.agent`: the agent of this machine as a process of its own."""

import asyncio
import sys

import msgspec

from services.agent.adapters import choose_runtime, make_runtime
from services.agent.app import AgentApp
from services.agent.settings import AgentSettings
from services.shared.runner import Host, main
from services.shared.settings import SettingsError, load


def make(host: Host) -> AgentApp:
    """The agent, with the runtime that its settings or this machine name."""
    settings = load(AgentSettings, "ROADSTEAD_AGENT_")
    settings = msgspec.structs.replace(settings, runtime=chosen)
    return AgentApp(host, settings, make_runtime(settings, host.data))


if __name__ == "__main__":
    try:
        chosen = asyncio.run(choose_runtime(load(AgentSettings, "ROADSTEAD_AGENT_").runtime))
    except SettingsError as error:
        sys.exit(f"agent: {error}")
    main("agent", 4575, make)
