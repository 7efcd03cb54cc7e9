"""Sound by ffmpeg to tokens by a small Whisper with random weights, and its alignment by numba."""

from __future__ import annotations

import subprocess

import numpy as np
import torch
import whisper
from whisper.timing import dtw_cpu

print("whisper", whisper.__version__)
torch.manual_seed(0)
tone = ["-f", "lavfi", "-i", "sine=frequency=440:duration=1", "/tmp/tone.mp3"]
subprocess.run(["ffmpeg", "-loglevel", "error", "-y", *tone], check=True)
sound = whisper.load_audio("/tmp/tone.mp3")  # by ffmpeg
assert abs(len(sound) - 16000) < 1600, len(sound)
assert np.abs(np.fft.rfft(sound[:16000])).argmax() in range(430, 451)
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
