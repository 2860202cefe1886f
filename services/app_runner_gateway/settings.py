"""Settings of the App Runner gateway (`ROADSTEAD_APP_RUNNER_GATEWAY_…`)."""

import msgspec


class AppRunnerGatewaySettings(msgspec.Struct, kw_only=True, frozen=True):
    """Times are seconds.

    `https_port` 0: the port it had when it ran last, or a free one; none given: 8443 rather than any free one.
    `scale_in_s`: how long the load must have been lower before instances go. `deploy_s`: how long a new revision has to
    become healthy. `drain_s`: how long requests of an instance that goes may take. `queue_s`: how long a request waits
    for an instance that has room. `haproxy`: the program; empty: this set-up serves nothing, and says so.
    `certificate_look_s`: how often is looked whether the certificate is to be made anew.
    `express_start_s`: how long a task of an Express service may fail its checks at first before it is taken for ill.
    """

    https_host: str = "127.0.0.1"
    https_port: int | None = None
    haproxy: str = "haproxy"
    scale_in_s: float = 60.0
    deploy_s: float = 300.0
    drain_s: float = 30.0
    queue_s: float = 30.0
    keep_deleted_s: float = 3600.0
    metrics_s: float = 10.0
    express_start_s: float = 60.0
    certificate_look_s: float = 6 * 3600.0
