#!/bin/sh
# pip of the environment that a link to this lies in; it runs where the environment itself may hold no
# programs (--tmpfs /tmp is noexec).
exec "${0%/*}/python" -m pip "$@"
