"""The stories: a program of stories/ each, who plays it, and what it needs."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.image.conftest import PROJECT
from tests.image.layout import BuiltImage, read_pins
from tests.use.places import CHROOT, Containers, Place
from tests.use.users import USERS, User

POPULAR = (
    "torchvision", "xformers", "sentence-transformers", "ultralytics", "accelerate", "peft",
    "opencv-python-headless", "tensorboard", "lightning", "keras",
)  # fmt: skip
STOP_SECONDS = 5  # or as long as the start took, where the machine has more to do
GRACE_SECONDS = 60  # before an engine kills; the exit code says whether it did
# Few, for what does not depend on the user; the others are all of USERS.
FEW = ("dev", "12345:12345", "keep-id")


@dataclass(frozen=True)
class Story:
    """One thing that people do with an image."""

    name: str
    command: tuple[str, ...] = ()
    framework: str = ""
    devel: bool = False
    without: str = ""  # a framework beside which this is not done
    needs: str = ""  # a distribution that not every image has
    users: tuple[str, ...] = tuple(USERS)
    network: bool = False
    installs: bool = False
    loads_code: bool = False
    engine_only: bool = False
    small: tuple[str, ...] = ()  # as whom .ci/run plays it, too
    play: Callable[[Place, User, Story], None] | None = None


def program(name: str, *arguments: str) -> tuple[str, ...]:
    """The command of a story."""
    return ("python", f"/stories/{name}.py", *arguments)


def run_program(place: Place, user: User, story: Story) -> None:
    """A story that is a program: it ends well."""
    network, code = story.network, story.loads_code
    done = place.run(user, story.command, network=network, loads_code=code)
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout[-6000:]}"


def use_jupyter(place: Place, user: User, story: Story) -> None:
    """JupyterLab by its port and token: a cell answers, and `stop` ends it soon and well."""
    assert isinstance(place, Containers)
    token = "--env=JUPYTER_TOKEN=a-token-of-the-story"
    start = ["jupyter", "lab", "--no-browser", *(["--allow-root"] if user.name == "root" else [])]
    began = time.monotonic()
    with place.container(user, start, token) as name:
        asked = place.call("exec", name, *program("notebook"))
        logs = place.call("logs", name).stdout
        assert asked.returncode == 0, f"{asked.stdout[-3000:]}\n{logs[-3000:]}"
        answered = time.monotonic()
        assert place.call("stop", f"--time={GRACE_SECONDS}", name).returncode == 0
        took = time.monotonic() - answered
        code = place.call("inspect", "--format={{.State.ExitCode}}", name).stdout.strip()
        assert took < max(STOP_SECONDS, answered - began), f"it took {took:.1f} s to stop"
        assert code in ("0", "143"), code


def write_to_another_s_folder(place: Place, user: User, story: Story) -> None:
    """A folder that the image's user cannot write: said at the start, with what to do."""
    assert isinstance(place, Containers)
    with place.workspace(USERS["own uid"]) as folder:
        options = place.options(user, folder)
        done = place.call("run", "--rm", *options, place.reference, *program("checkpoint"))
    assert done.returncode != 0
    assert "Permission denied" in done.stdout
    said = done.stdout.partition("Traceback")[0]
    assert "/workspace" in said, said
    assert "--user" in said, said


def install_as_root_then_as_dev(place: Place, user: User, story: Story) -> None:
    """`USER root` and pip, then `USER 1000` again, in one container."""
    assert isinstance(place, Containers)
    with place.container(user, ["sleep", "infinity"], network=True) as name:
        install = ["pip", "install", "--quiet", "humanize==4.9.0"]
        installed = place.call("exec", "--user=0", name, *install)
        assert installed.returncode == 0, installed.stdout
        done = place.call("exec", name, *program("as_root_then_dev"))
        assert done.returncode == 0, done.stdout


PYTORCH, TENSORFLOW = "pytorch", "tensorflow"
STORIES = {
    story.name: story
    for story in (
        Story("checkpoint", program("checkpoint"), PYTORCH, small=("dev",)),
        Story(
            "checkpoint in another's folder",
            framework=PYTORCH,
            users=("dev",),
            engine_only=True,
            small=("dev",),
            play=write_to_another_s_folder,
        ),
        Story("home, name, caches, git", program("at_home"), small=tuple(USERS)),
        Story(
            "fine-tune and resume", program("finetune"), PYTORCH, devel=True, small=("Kubernetes",)
        ),
        Story(
            "fine-tune with TensorFlow",
            program("finetune_tensorflow"),
            TENSORFLOW,
            devel=True,
            without=PYTORCH,
        ),
        Story(
            "MNIST by torchvision",
            program("mnist"),
            PYTORCH,
            needs="torchvision",
            users=FEW,
            small=("12345:12345",),
        ),
        Story("tf.data and Keras", program("keras_data"), TENSORFLOW),
        Story("TensorBoard by PyTorch", program("tensorboard_pytorch"), PYTORCH, users=FEW),
        Story("TensorBoard by Keras", program("tensorboard_keras"), TENSORFLOW, users=FEW),
        Story(
            "two processes",
            ("torchrun", "--nproc-per-node=2", "/stories/two_processes.py"),
            PYTORCH,
            users=FEW,
            small=("dev",),
        ),
        Story(
            "two processes, --standalone",
            ("torchrun", "--standalone", "--nproc-per-node=2", "/stories/two_processes.py"),
            PYTORCH,
            users=("dev",),
        ),
        Story(
            "torch.compile", program("compiled"), PYTORCH, loads_code=True, small=("1000670000:0",)
        ),
        Story("C++ extension", program("extension"), PYTORCH, devel=True, loads_code=True),
        Story(
            "JupyterLab",
            devel=True,
            engine_only=True,
            small=("own uid", "read-only"),
            play=use_jupyter,
        ),
        Story(
            "own environment", program("own_environment"), loads_code=True, small=("dev", "own uid")
        ),
        Story(
            "ten popular packages, pip",
            program("ask_for_packages", "pip", *POPULAR),
            users=FEW,
            network=True,
        ),
        Story(
            "ten popular packages, uv",
            program("ask_for_packages", "uv", *POPULAR),
            devel=True,
            users=FEW,
            network=True,
            small=("12345:12345",),
        ),
        Story(
            "install and remove, pip",
            program("install", "pip"),
            network=True,
            installs=True,
            loads_code=True,
            small=("1000670000:0", "Kubernetes"),
        ),
        Story(
            "install and remove, uv",
            program("install", "uv"),
            devel=True,
            network=True,
            installs=True,
            loads_code=True,
        ),
        Story(
            "install as root, then as dev",
            users=("dev",),
            network=True,
            engine_only=True,
            small=("dev",),
            play=install_as_root_then_as_dev,
        ),
    )
}


def pins_of(image: BuiltImage) -> dict[str, str]:
    """Version by distribution, as the image was locked."""
    return read_pins(PROJECT / "images" / image.id / "requirements.lock")


def obstacle(story: Story, image: BuiltImage, engine: str, user: User) -> str | None:
    """Why a story is not for an image, an engine or a user; None when it is."""
    frameworks = image.cell["framework"].split("+")
    if story.framework and story.framework not in frameworks:
        return f"no {story.framework} in this image"
    if story.without in frameworks:
        return f"beside {story.without} it is done with that"
    if story.devel and image.flavour != "devel":
        return "devel images only"
    if story.needs and story.needs not in pins_of(image):
        return f"no {story.needs} in this image"
    if user.name not in story.users:
        return f"played as {', '.join(story.users)}"
    if engine not in user.engines:
        return "needs an engine's options" if engine == "chroot" else f"not in {engine}"
    if engine == CHROOT and (story.engine_only or story.network):
        return "needs a container" if story.engine_only else "a chroot has no network"
    return None
