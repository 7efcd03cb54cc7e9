#!/bin/sh
# Make a virtual environment on top of the image's: /opt/wheelyard/venv FOLDER. What the image has can be
# imported there, pip and uv count it as installed, and what is installed on top of it comes first.
set -eu

if [ $# -ne 1 ] || [ -e "$1" ]; then
    echo "usage: $0 FOLDER, which is not there yet" >&2
    exit 2
fi
case $1 in
    /*) to=$1 ;;
    *) to=$PWD/$1 ;;
esac
below=/opt/venv
cd "$below"
site=$(echo lib/python3.*/site-packages)
making=$to.$$
trap 'rm -rf "$making"' EXIT
mkdir -p "$making/bin" "$making/$site"
# Scripts run in this environment, not in that below.
grep -lIF "$below" bin/* /usr/local/bin/selfcheck | xargs cp -t "$making/bin"
sed -i "s|$below|$to|g" "$making"/bin/*
ln -s "$(readlink bin/python)" "$making/bin/python"
for name in bin/python3*; do
    ln -s python "$making/$name"
done
for name in bin/pip bin/pip3*; do
    ln -sf /opt/wheelyard/pip "$making/$name"
done
ln -s lib "$making/lib64"
cp pyvenv.cfg "$making"
if [ -e pip.conf ]; then # what the image keeps pip from replacing
    ln -s "$below/pip.conf" "$making"
fi
printf "import site; site.addsitedir('%s')\n" "$below/$site" > "$making/$site/_image.pth"
# uv looks for installed packages in the environment alone.
cp -rs "$below/$site"/*.dist-info "$making/$site"
for name in share etc; do # Jupyter's files; it serves no link that leads elsewhere
    [ ! -d "$name" ] || cp -r "$name" "$making"
done
mv -T "$making" "$to" 2>/dev/null || [ -d "$to" ] # another process was faster
