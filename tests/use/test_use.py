"""What people do with an image, in the image."""

from __future__ import annotations

from tests.use.places import Place
from tests.use.played import Story, run_program
from tests.use.users import User


def test_story(place: Place, user: User, story: Story) -> None:
    (story.play or run_program)(place, user, story)
