#!/bin/sh
# Runs as root while the dev container's image is made. The environment belongs to a group, as in
# Wheelyard's images, so that a user with another id may install into it and nothing is copied for that.
set -eu

venv=/opt/venv
group=venv
user=${_REMOTE_USER:-root}
here=$(dirname "$0")

fail() {
    echo "wheelyard: $1" >&2
    exit 1
}

[ -d "$here/selfcheck" ] || fail "selfcheck is not beside install.sh: let \`wheelyard devcontainer feature\` write this folder"
command -v python3 >/dev/null || [ -x "$venv/bin/python" ] || fail "this image has no python3: install one first"

if ! getent group "$group" >/dev/null; then
    groupadd --gid 900 "$group" 2>/dev/null || groupadd "$group"
fi
[ "$user" = root ] || usermod -aG "$group" "$user"

if [ ! -x "$venv/bin/python" ]; then
    # What the image's Python has stays in reach: frameworks are gigabytes.
    python3 -m venv --system-site-packages "$venv" ||
        fail "python3 cannot make an environment: install its venv module (Debian: python3-venv)"
fi
# Folders alone: who may write to a folder may add and replace what is in it. A file that is given to
# somebody else would be copied into this layer.
find "$venv" -type d ! -group "$group" -exec chgrp "$group" {} +
find "$venv" -type d ! -perm -2070 -exec chmod g+rwxs {} +

mkdir -p /opt/wheelyard
rm -rf /opt/wheelyard/selfcheck
cp -r "$here/selfcheck" /opt/wheelyard/selfcheck
cat >/usr/local/bin/selfcheck <<END
#!$venv/bin/python
import sys

sys.path.insert(0, "/opt/wheelyard")
from selfcheck.cli import main

sys.exit(main())
END
chmod 0755 /usr/local/bin/selfcheck
cat >/etc/profile.d/10-venv.sh <<END
# Debian's /etc/profile resets PATH; login shells find the environment again here.
export VIRTUAL_ENV=$venv
export PATH="$venv/bin:\$PATH"
END
