"""Boxes in a made image by a YOLO with random weights, and one step of training it."""

from __future__ import annotations

import cv2
import git
import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn
import thop
import torch
import torchvision
import ultralytics

for module in (cv2, git, mpl, pd, seaborn, torchvision, ultralytics):
    print(module.__name__, module.__version__)
torch.manual_seed(0)
image = np.zeros((96, 128, 3), np.uint8)
cv2.rectangle(image, (20, 20), (60, 60), (0, 255, 0), -1)
assert cv2.imwrite("/tmp/image.jpg", image)
model = ultralytics.YOLO("yolov5n.yaml")
(found,) = model.predict("/tmp/image.jpg", imgsz=96, device="cpu", verbose=False)
assert found.orig_shape == (96, 128), found.orig_shape
net = model.model.train()
optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
out = net(torch.rand(2, 3, 96, 96))
tensors = out if isinstance(out, list) else [x for x in out.values() if torch.is_tensor(x)]
loss = sum(one.float().pow(2).mean() for one in tensors)
loss.backward()
optimizer.step()
work, _ = thop.profile(torch.nn.Conv2d(3, 8, 3), (torch.rand(1, 3, 8, 8),), verbose=False)
kept = torchvision.ops.nms(torch.tensor([[0.0, 0, 1, 1]] * 2), torch.tensor([0.9, 0.8]), 0.5)
assert work > 0, work
assert kept.tolist() == [0], kept
print("step ok", len(found.boxes), loss.item())
