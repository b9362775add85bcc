"""`python -m serving`: the scoring API as a process, configured by `FRAUDLINE_*` variables (see `serving.settings`)."""

import os
import socket
import sys

import uvicorn
from uvicorn.supervisors import Multiprocess

from processing.errors import BadInput, FraudlineError, report
from serving.api.connection_limits import max_connections, uvicorn_options
from serving.app import from_environment
from serving.decision.service import open_service
from serving.settings import Settings, read_settings

BACKLOG = 2048
GRACE_SECONDS = 20  # for requests in progress when the server is told to stop


def main() -> int:
    """Serve until stopped, and return the exit code. An error that a user can fix is one line on stderr."""
    try:
        serve(read_settings())
    except FraudlineError as error:
        return report(error)
    except OSError as error:  # an unreadable home
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def serve(settings: Settings) -> None:
    """Serve with these settings until stopped. Raises FraudlineError if the server cannot start."""
    # Rows are scored one at a time, so more OpenMP threads would only wait. Read when scikit-learn is imported.
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ.update(settings.variables())  # for the workers and the app's factory
    open_service(settings).close()  # reports errors here, once, instead of in every worker
    with _listen(settings) as listener:
        host, port = listener.getsockname()[:2]
        address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        connections = max_connections(settings.connections)
        print(f"Fraudline serves {settings.home} on {address} (API: {address}/docs); Ctrl-C to stop", file=sys.stderr)
        if connections < settings.connections:
            print(f"the limit of open files (ulimit -n) allows {connections} connections only", file=sys.stderr)
        config = uvicorn.Config(
            f"{from_environment.__module__}:{from_environment.__name__}",
            factory=True,
            workers=settings.workers,
            **uvicorn_options(settings, connections),
            access_log=False,
            proxy_headers=False,  # callers are identified by their keys, not by addresses
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
                    raise FraudlineError("the server could not start; see the lines above")
        except KeyboardInterrupt:  # uvicorn raises it again after shutting down
            pass


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # allows a port that was just released
        listener.bind((settings.host, settings.port))
        listener.listen(BACKLOG)  # the port is ours from here on; early callers wait
        listener.set_inheritable(True)
    except OSError as error:
        listener.close()
        raise BadInput(
            f"cannot listen on {settings.host} port {settings.port}: {error.strerror}; "
            "set FRAUDLINE_PORT to a free port (0 for any), or stop the process that uses it"
        ) from error
    return listener


if __name__ == "__main__":
    sys.exit(main())
