#!/bin/sh
# Give root up, then become the command. Under a user of its own already, as on ECS, there is nothing to give up.
set -eu
if [ "$(id -u)" = 0 ]; then
    exec setpriv --reuid=10001 --regid=10001 --clear-groups --no-new-privs "$@"
fi
exec "$@"
