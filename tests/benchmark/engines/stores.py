"""Where an engine keeps its images: a way is compared with pip in the same store."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tests.engines import trixie
from tests.engines.daemons import Kind
from wheelyard.settings import Settings

CLASSIC, CONTAINERD, BUILDAH = "classic", "containerd", "buildah"
STORES: Mapping[str, str] = {
    CLASSIC: "Docker's classic image store",
    # https://docs.docker.com/engine/storage/containerd/
    CONTAINERD: "containerd's image store, the default of fresh installations since Docker 29",
}
KINDS: Mapping[str, Callable[[Settings], Kind]] = {
    CLASSIC: trixie.classic,
    CONTAINERD: trixie.containerd,
}


def compared_in(store: str) -> str:
    """The store whose pip is the measure; buildah's own, like the classic one, keeps no tars."""
    return CLASSIC if store == BUILDAH else store
