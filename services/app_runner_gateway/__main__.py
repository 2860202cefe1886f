"""`python -m services.app_runner_gateway`: the gateway as a process of its own."""

from services.app_runner_gateway.app import AppRunnerGatewayApp
from services.app_runner_gateway.settings import AppRunnerGatewaySettings
from services.shared.runner import main
from services.shared.settings import load

if __name__ == "__main__":
    main(
        "app_runner_gateway",
        4580,
        lambda host: AppRunnerGatewayApp(host, load(AppRunnerGatewaySettings, "ROADSTEAD_APP_RUNNER_GATEWAY_")),
    )
