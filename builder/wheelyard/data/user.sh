# shellcheck shell=sh
# A home, a name and an environment for a user who lacks them: one whom the image does not know
# (docker run --user, OpenShift, Kubernetes' runAsUser), or anybody where nothing can be written
# (--read-only). For all others it does nothing. Sourced by the entry point, and by the shells that an
# engine starts beside it.

wheelyard_uid=$(id -u)

# Programs that ask the environment first find a name there: getpass, and so torch.compile.
if ! getent passwd "$wheelyard_uid" >/dev/null; then
    export USER="${USER:-uid$wheelyard_uid}"
    export LOGNAME="${LOGNAME:-$USER}"
fi

# podman takes the working folder for the home of a user it makes up: that is somebody's project.
if ! [ -w "${HOME:-}" ] || [ "$HOME" = /workspace ]; then
    if [ -w /home/dev ]; then
        HOME=/home/dev
    else # a folder that is his alone: others may write beside it
        HOME=${TMPDIR:-/tmp}/home-$wheelyard_uid
        mkdir -m 700 "$HOME" 2>/dev/null
        case $(stat -c '%u %a %F' "$HOME" 2>/dev/null) in
            "$wheelyard_uid 700 directory" | "$wheelyard_uid 2700 directory") ;;
            *)
                echo "wheelyard: $HOME is no folder of user $wheelyard_uid alone, so another one is the home" >&2
                HOME=$(mktemp -d "$HOME.XXXXXX") || HOME=/
                ;;
        esac
    fi
    export HOME
fi

# Who cannot write the image's environment installs into one of his own on top of it.
if [ "${VIRTUAL_ENV:-}" = /opt/venv ] && ! [ -w /opt/venv/bin ] && [ -w "$HOME" ]; then
    wheelyard_venv=$HOME/.wheelyard/venv-$(echo /opt/venv/lib/python3.*/site-packages/*.dist-info | cksum | tr ' ' -)
    if [ -d "$wheelyard_venv" ] || /opt/wheelyard/venv "$wheelyard_venv"; then
        export VIRTUAL_ENV="$wheelyard_venv"
        export PATH="$wheelyard_venv/bin:$PATH"
        [ -x "$wheelyard_venv/bin/selfcheck" ] ||
            echo "wheelyard: programs in $HOME cannot be run (noexec): torch.compile and some packages need --tmpfs /tmp:exec" >&2
    fi
    unset wheelyard_venv
fi
unset wheelyard_uid
