"""Whether the worker of this machine serves its model: `python -m workers.alive`.

For the health check of a container. It asks the worker's own metrics, which a thread beside the
model's answers: errata_model_ready is 1 while the model is loaded, the lease is held and the steps
come in time. Exit code 0 says so; 1 says no, with the reason on standard error.
"""

import http.client
import sys

from app.settings import Settings

_PATIENCE_S = 4
_EVERY_ADDRESS = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104


def main() -> int:
    """Ask once."""
    settings = Settings()
    port = settings.worker_metrics_port
    if port == 0:
        return _no("ERRATA_WORKER_METRICS_PORT is 0, so nothing can be asked. Set it to a port.")
    host = _EVERY_ADDRESS.get(settings.worker_metrics_host, settings.worker_metrics_host)
    # Not urllib, which would ask a proxy of the environment for our own address.
    asked = http.client.HTTPConnection(host, port, timeout=_PATIENCE_S)
    try:
        asked.request("GET", "/metrics")
        said = asked.getresponse().read().decode().splitlines()
    except (OSError, http.client.HTTPException) as error:
        return _no(f"{host}:{port} does not answer: {error}")
    finally:
        asked.close()
    ready = [line.rpartition(" ")[2] for line in said if line.startswith("errata_model_ready{")]
    if ready != ["1.0"]:
        return _no("The worker does not serve its model now. Its log says why.")
    return 0


def _no(why: str) -> int:
    sys.stderr.write(f"{why}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
