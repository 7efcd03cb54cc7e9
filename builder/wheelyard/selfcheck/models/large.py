"""Models that fill a GPU, as data: ResNet-50 (He et al.) and GPT-2 small (Radford et al.).

Tiny ones of the same code train on a processor; their speeds mean nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..models.catalogue import dense


@dataclass(frozen=True, slots=True)
class ResNet:
    """Bottleneck blocks; stride 2 in the 3 x 3 convolution of each stage but the first (v1.5)."""

    width: int = 64
    blocks: tuple[int, ...] = (3, 4, 6, 3)
    side: int = 224
    classes: int = 1000
    batch: int = 128
    parameters: int | None = 25_557_032  # torchvision's resnet50
    rate: float = 0.01

    @property
    def operations(self) -> int:
        """Floating-point operations forward, for one picture; a multiply-add as two."""
        side, inputs = self.side // 4, self.width
        total = (self.side // 2) ** 2 * dense(49 * 3, self.width)
        for stage, blocks in enumerate(self.blocks):
            width = self.width << stage
            for block in range(blocks):
                before = side
                if stage and not block:
                    side //= 2
                total += before**2 * dense(inputs, width)
                total += side**2 * (dense(9 * width, width) + dense(width, 4 * width))
                if not block:
                    total += side**2 * dense(inputs, 4 * width)
                inputs = 4 * width
        return total + dense(inputs, self.classes)

    @property
    def training_operations(self) -> int:
        """Operations of a training step; the gradient of the picture is not computed."""
        return 3 * self.operations - (self.side // 2) ** 2 * dense(49 * 3, self.width)


@dataclass(frozen=True, slots=True)
class Gpt2:
    """A decoder; its head is its embedding."""

    width: int = 768
    layers: int = 12
    heads: int = 12
    tokens: int = 1024
    vocabulary: int = 50257
    batch: int = 8
    parameters: int | None = 124_439_808  # Hugging Face's gpt2
    rate: float = 3e-4

    @property
    def operations(self) -> int:
        """Floating-point operations forward, for one sequence; attention as if it masks nothing."""
        matrices = 12 * self.width  # three to project, one to merge, four to grow and to shrink
        layer = dense(matrices, self.width) + 2 * dense(self.tokens, self.width)
        return self.tokens * (self.layers * layer + dense(self.width, self.vocabulary))

    @property
    def training_operations(self) -> int:
        """Operations of a training step: each layer once forward and twice backward."""
        return 3 * self.operations


FULL: dict[str, ResNet | Gpt2] = {"resnet50": ResNet(), "gpt2": Gpt2()}
TINY: dict[str, ResNet | Gpt2] = {
    "resnet50": ResNet(8, (1, 2, 1, 1), side=32, classes=10, batch=8, parameters=None, rate=0.05),
    "gpt2": Gpt2(32, 2, 4, 32, 64, 4, None, 3e-3),
}


def stages(shape: ResNet) -> list[tuple[int, int, int]]:
    """List inputs, width and stride of every block, in order."""
    order, inputs = [], shape.width
    for stage, blocks in enumerate(shape.blocks):
        width = shape.width << stage
        for block in range(blocks):
            order.append((inputs, width, 2 if stage and not block else 1))
            inputs = 4 * width
    return order
