"""One training step of a small diffusion model, then two steps of a pipeline."""

from __future__ import annotations

import accelerate
import datasets
import diffusers
import ftfy
import jinja2
import torch
import torchvision
from torch.nn import functional
from torch.utils.tensorboard import SummaryWriter
from transformers import CLIPTextConfig, CLIPTextModel

for module in (datasets, diffusers, ftfy, jinja2, torchvision):
    print(module.__name__, module.__version__)
torch.manual_seed(0)
words = CLIPTextModel(
    CLIPTextConfig(
        vocab_size=100,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=8,
    )
)
unet = diffusers.UNet2DConditionModel(
    sample_size=16,
    in_channels=3,
    out_channels=3,
    block_out_channels=(32, 64),
    layers_per_block=1,
    down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
    up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    cross_attention_dim=32,
    norm_num_groups=8,
)
scheduler = diffusers.DDPMScheduler(num_train_timesteps=10)
machine = accelerate.Accelerator(cpu=True)
optimizer = torch.optim.AdamW(unet.parameters())
unet, optimizer = machine.prepare(unet, optimizer)
images = torchvision.transforms.functional.normalize(torch.rand(2, 3, 16, 16), [0.5], [0.5])
noise, times = torch.randn_like(images), torch.tensor([1, 5])
said = words(torch.randint(0, 100, (2, 8))).last_hidden_state
guess = unet(scheduler.add_noise(images, noise, times), times, said).sample
loss = functional.mse_loss(guess, noise)
machine.backward(loss)
optimizer.step()
with SummaryWriter("/tmp/board") as board:
    board.add_scalar("loss", loss.item(), 0)
plain = diffusers.UNet2DModel(
    sample_size=16,
    block_out_channels=(32, 64),
    layers_per_block=1,
    down_block_types=("DownBlock2D", "AttnDownBlock2D"),
    up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    norm_num_groups=8,
)
(image,) = diffusers.DDPMPipeline(plain, scheduler)(num_inference_steps=2).images
assert image.size == (16, 16), image.size
print("step ok", loss.item())
