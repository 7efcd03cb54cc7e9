"""What Kubernetes makes of a Job or a Deployment, for podman, which knows pods and no cluster."""

from __future__ import annotations

import copy
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.engines.podman import Storage

INDEX = "batch.kubernetes.io/job-completion-index"
NETWORK = "10.91.0"
TIMEOUT = 540
# A bridge in a network of its own, and nothing left of its addresses; all pods end with the call.
PLAY = """\
count=$1 folder=$2; shift 2
mkdir -p /var/lib/cni
mount -t tmpfs tmpfs /var/lib/cni
trap '"$@" pod rm --force --all >/dev/null 2>&1' EXIT
ip link set lo up
"$@" network create --subnet {network}.0/24 pods >/dev/null
at=0
while [ $at -lt $count ]; do
    "$@" kube play --network pods --ip {network}.$((at + 2)) "$folder/$at.json" >&2
    at=$((at + 1))
done
for name in $(cat "$folder/names"); do
    code=$("$@" wait "$name")
    "$@" logs "$name"
    [ "$code" = 0 ] || exit "$code"
done
""".replace("{network}", NETWORK)


def pods_of(document: dict[str, Any], image: str, count: int = 1) -> list[dict[str, Any]]:
    """Return the pods that the controller of a Job or a Deployment starts, with our image.

    A processor's: the GPU is left out. hostAliases stand for the cluster's names, and $(VARIABLE)
    is filled in, as the kubelet does.
    """
    name = document["metadata"]["name"]
    names = [
        {"ip": f"{NETWORK}.{at + 2}", "hostnames": [f"{name}-{at}.{name}"]} for at in range(count)
    ]
    return [_pod(document, image, f"{name}-{at}", at, names) for at in range(count)]


def _pod(
    document: dict[str, Any], image: str, name: str, at: int, names: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    spec = copy.deepcopy(document["spec"]["template"]["spec"])
    spec |= {"hostname": name, "hostAliases": list(names), "restartPolicy": "Never"}
    (container,) = spec["containers"]
    del container["resources"]["limits"]["nvidia.com/gpu"]
    container |= {"image": image, "imagePullPolicy": "Never"}
    for words in (container.get("command", []), container.get("args", [])):
        words[:] = [word.replace("$(JOB_COMPLETION_INDEX)", str(at)) for word in words]
    for volume in (*spec["volumes"], *container["volumeMounts"]):
        volume["name"] += f"-{at}"  # podman would share one of the same name
    metadata = {"name": name, "annotations": {INDEX: str(at)}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def play(pods: Sequence[dict[str, Any]], storage: Storage, folder: Path) -> str:
    """Run pods on one network until their containers end well; what these print, in order."""
    for at, pod in enumerate(pods):
        (folder / f"{at}.json").write_text(json.dumps(pod))
    containers = [
        f"{pod['metadata']['name']}-{pod['spec']['containers'][0]['name']}" for pod in pods
    ]
    (folder / "names").write_text("\n".join(containers))
    networks = folder / "networks"
    networks.mkdir()
    command = [*storage.podman_command(), f"--network-config-dir={networks}"]
    inside = command[len(storage.apart) :]
    start = [*storage.apart, "unshare", "--net", "sh", "-e", "-c", PLAY, "play"]
    argv = [*start, str(len(pods)), str(folder), *inside]
    done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=TIMEOUT)
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout
