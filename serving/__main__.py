"""`python -m serving`: the scoring API as a process, set up by `FRAUDLINE_*` variables (see `serving.settings`)."""

import os
import socket
import sys

import uvicorn
from uvicorn.supervisors import Multiprocess

from processing.errors import BadInput, FraudlineError, report
from serving.api.connections import options, places
from serving.app import from_environment
from serving.decision.service import open_service
from serving.settings import Settings, read_settings

BACKLOG = 2048
GRACE_SECONDS = 20  # for requests that are under way when the server is told to stop


def main() -> int:
    """Serve until told to stop. Returns the exit code: an error a user can meet is one line on stderr."""
    try:
        serve(read_settings())
    except FraudlineError as error:
        return report(error)
    except OSError as error:  # a home that may not be read
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def serve(settings: Settings) -> None:
    """Serve with these settings until told to stop. Raises FraudlineError if that cannot begin."""
    # One row is scored at a time: more OpenMP threads only wait for each other. Read when scikit-learn is loaded.
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ.update(settings.variables())  # for the workers, and for the app's factory
    open_service(settings).close()  # what is wrong is told here, once, and not by every worker
    with _bind(settings) as listener:
        host, port = listener.getsockname()[:2]
        where = f"[{host}]" if ":" in host else host
        address = f"http://{where}:{port}"
        connections = places(settings.connections)
        print(f"Fraudline serves {settings.home} on {address} (see {address}/docs); Ctrl-C stops it", file=sys.stderr)
        if connections < settings.connections:
            print(f"the limit of open files (ulimit -n) leaves room for {connections} connections", file=sys.stderr)
        config = uvicorn.Config(
            f"{from_environment.__module__}:{from_environment.__name__}",
            factory=True,
            workers=settings.workers,
            **options(settings, connections),
            access_log=False,
            proxy_headers=False,  # who calls is told by their key, not by an address
            server_header=False,
            log_level="warning",
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
        server = uvicorn.Server(config)
        try:
            if settings.workers > 1:
                Multiprocess(config, sockets=[listener]).run()
            else:
                server.run(sockets=[listener])
                if not server.started:
                    raise FraudlineError("the server could not start; the lines above say why")
        except KeyboardInterrupt:  # given back by uvicorn once it has shut down
            pass


def _bind(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port just left can be taken again
        listener.bind((settings.host, settings.port))
        listener.listen(BACKLOG)  # from here on the port is ours; who calls early waits
        listener.set_inheritable(True)
    except OSError as error:
        listener.close()
        raise BadInput(
            f"cannot listen on {settings.host} port {settings.port}: {error.strerror}; "
            "set FRAUDLINE_PORT to a free port (0 for any), or stop what uses it"
        ) from error
    return listener


if __name__ == "__main__":
    sys.exit(main())
