#!/bin/sh
# Drop root, then run the command. On ECS the container already runs as another user.
set -eu
if [ "$(id -u)" = 0 ]; then
    exec setpriv --reuid=10001 --regid=10001 --clear-groups --no-new-privs "$@"
fi
exec "$@"
