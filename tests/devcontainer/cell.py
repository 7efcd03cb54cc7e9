import torch
from torch import nn

torch.manual_seed(0)
device = "cuda" if torch.cuda.is_available() else "cpu"
model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1)).to(device)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
inputs, wanted = torch.randn(2, 64, 8, device=device)

print(f"PyTorch {torch.__version__} on {device}")
for step in range(1, 6):
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(inputs), wanted[:, :1])
    loss.backward()
    optimizer.step()
    print(f"step {step}: loss {loss.item():.4f}")
