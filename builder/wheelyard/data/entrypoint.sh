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
exec "$@"
