"""It learns, and goes on where it stopped."""

import sys
import tempfile
import unittest
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from train import train


class Training(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.logdir = folder.name
        self.checkpoint = Path(folder.name, "last.pt")

    def test_the_loss_falls(self) -> None:
        losses = train(6, self.checkpoint, logdir=self.logdir)
        self.assertLess(losses[-1], losses[0] * 0.7)

    def test_it_goes_on_from_a_checkpoint(self) -> None:
        before = train(4, self.checkpoint, logdir=self.logdir)
        after = train(1, self.checkpoint, resume=True, logdir=self.logdir)
        self.assertLess(after[0], before[0])
        self.assertEqual(torch.load(self.checkpoint)["epoch"], 4)


if __name__ == "__main__":
    unittest.main()
