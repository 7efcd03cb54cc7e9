#!/bin/sh
# What a container starts with, as its user and below tini: a home and an environment that this user
# can write, then the program.
. /opt/wheelyard/user.sh

if [ -d /workspace ] && ! [ -w /workspace ]; then
    case $(stat -c %u /workspace) in
        "$(id -u)") hint='it is read-only: mount a folder there' ;;
        *) hint="it belongs to $(stat -c %u:%g /workspace); if it is yours: docker run --user \$(id -u):\$(id -g)" ;;
    esac
    echo "wheelyard: /workspace cannot be written by user $(id -u): $hint" >&2
    unset hint
fi
# Where there is only a loopback (docker run --network none), nobody knows the container's own name.
# torchrun asks for it, waits for minutes and fails; it takes its defaults from PET_*.
if [ -x /opt/venv/bin/torchrun ] && [ -z "${PET_LOCAL_ADDR:-}" ] &&
    [ -z "$(sed 1d /proc/net/route 2>/dev/null; grep -sv ' lo$' /proc/net/if_inet6)" ] &&
    ! getent hosts "$(uname -n)" >/dev/null; then
    export PET_LOCAL_ADDR=127.0.0.1
fi
exec "$@"
