"""Slurm on two nodes: a network and a host name each, on one machine, gone with the call."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.engines.daemons import ALONE

TIMEOUT = 540
# The script of README's kind asks for one GPU a node: /dev/null has to be one. `config_overrides`
# lets a node have more processors than the machine.
CONFIGURATION = """\
ClusterName=test
SlurmctldHost=node1
SlurmUser=root
AuthInfo=socket={folder}/munge/socket
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
GresTypes=gpu
MpiDefault=none
SlurmdParameters=config_overrides
StateSaveLocation={folder}
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
NodeName=node[1-2] CPUs=8 Gres=gpu:1
PartitionName=all Nodes=ALL Default=YES
"""
HOSTS = "127.0.0.1 localhost\n10.9.0.1 node1\n10.9.0.2 node2\n"
# A bridge joins the nodes. Each is a process that sleeps in its namespaces, until all end with us.
START = """\
folder=$1; shift
mount --bind "$folder/hosts" /etc/hosts
chown -R munge "$folder/munge"
setpriv --reuid=munge --regid=munge --clear-groups munged --key-file="$folder/munge/key" \
    --socket="$folder/munge/socket" --pid-file="$folder/munge/pid" \
    --log-file="$folder/munge/log" --seed-file="$folder/munge/seed"
export SLURM_CONF="$folder/slurm.conf"
ip link add nodes type bridge
ip link set nodes up
for number in 1 2; do
    unshare --net --uts sh -c 'hostname "$1"; ip link set lo up; exec sleep 1h' - node$number &
    eval "node$number=$!"
    while [ "$(nsenter --uts --target $! hostname)" != node$number ]; do sleep 0.1; done
    ip link add port$number type veth peer name eth0 netns $!
    ip link set port$number master nodes up
    nsenter --net --target $! ip address add 10.9.0.$number/24 dev eth0
    nsenter --net --target $! ip link set eth0 up
    nsenter --net --uts --target $! slurmd -D >>"$folder/slurmd.out" 2>&1 &
done
on="nsenter --net --uts --target $node1"
$on slurmctld -D >>"$folder/slurmctld.out" 2>&1 &
for _second in $(seq 60); do
    [ "$($on sinfo --noheader --format='%t %D' 2>/dev/null)" = "idle 2" ] && break
    sleep 1
done
$on "$@"
"""


def submit(script: Path, folder: Path, environment: Mapping[str, str]) -> tuple[int, str]:
    """Run a batch script on two nodes as root; its exit code, and what it printed and Slurm said.

    Puts Slurm's files into `folder`, which must have a short name.
    """
    folder.chmod(0o755)
    (folder / "munge").mkdir(mode=0o755)
    (folder / "munge/key").write_bytes(bytes(range(256)) * 4)
    (folder / "munge/key").chmod(0o600)
    (folder / "hosts").write_text(HOSTS)
    (folder / "slurm.conf").write_text(CONFIGURATION.format(folder=folder))
    (folder / "gres.conf").write_text("Name=gpu File=/dev/null\n")
    command = [
        *ALONE, "--mount-proc", "--net", "sh", "-e", "-c", START, "cluster", str(folder),
        "sbatch", "--wait", f"--output={folder}/job.out", str(script),
    ]  # fmt: skip
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=TIMEOUT, cwd=folder,
        env=dict(environment),
    )  # fmt: skip
    output = folder / "job.out"
    said = output.read_text() if output.exists() else ""
    return done.returncode, said or done.stdout + done.stderr
