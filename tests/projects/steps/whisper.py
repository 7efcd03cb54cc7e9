"""Speech to tokens by a small Whisper with random weights, and its alignment by numba."""

from __future__ import annotations

import numpy as np
import torch
import whisper
from whisper.timing import dtw_cpu

print("whisper", whisper.__version__)
torch.manual_seed(0)
sound = np.sin(np.arange(16000) * 440 * 2 * np.pi / 16000).astype(np.float32)
mel = whisper.log_mel_spectrogram(whisper.pad_or_trim(torch.from_numpy(sound)))
assert mel.shape == (80, 3000), mel.shape
sizes = whisper.model.ModelDimensions(
    n_mels=80,
    n_audio_ctx=1500,
    n_audio_state=64,
    n_audio_head=2,
    n_audio_layer=1,
    n_vocab=51865,
    n_text_ctx=448,
    n_text_state=64,
    n_text_head=2,
    n_text_layer=1,
)
model = whisper.model.Whisper(sizes)
options = whisper.DecodingOptions(language="en", fp16=False, sample_len=4)
found = whisper.decode(model, mel, options)
assert found.tokens is not None
path = dtw_cpu(np.random.default_rng(0).random((4, 6)))
assert path.shape[0] == 2, path.shape
print("step ok", found.tokens)
