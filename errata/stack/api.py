"""The API as a child of the supervisor: uvicorn on a socket that the supervisor has bound.

The socket outlives this process, so while a fallen API is started again its clients wait in the
backlog instead of being refused.
"""

import argparse
import socket

import uvicorn


def main() -> None:
    """Serve until SIGTERM. Open event streams are cut after a few seconds."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--fd", type=int, required=True)
    given = parser.parse_args()
    config = uvicorn.Config(
        "app.main:create_app",
        factory=True,
        access_log=False,
        log_config=None,  # the service has a log of its own
        timeout_graceful_shutdown=3,
    )
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=given.fd)])


if __name__ == "__main__":
    main()
