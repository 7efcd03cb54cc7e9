"""Public GPU projects as facts: what each requires, and what it needs to be changed here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Public:
    """A project that somebody has published."""

    name: str  # of its step in steps/, and of the image
    source: str  # repository, file, and the commit at which it was read
    requirements: tuple[str, ...]
    change: str = "nothing"  # what its requirements need here, in words
    packages: tuple[str, ...] = ()  # Debian's
    says: str = "step ok"  # what its step prints at the end


PUBLIC = (
    Public("my-model", "docs/examples/project", (), says="step 50: loss"),  # our own, as it is
    Public(
        "nanogpt",
        "karpathy/nanoGPT, README (0110f3c8)",
        ("torch", "numpy", "transformers", "datasets", "tiktoken", "wandb", "tqdm"),
    ),
    Public(
        "run_glue",
        "huggingface/transformers, examples/pytorch/text-classification (38a2427e)",
        (
            "accelerate", "datasets >= 1.8.0", "sentencepiece != 0.1.92", "scipy", "scikit-learn",
            "protobuf", "torch >= 1.3", "evaluate", "transformers",
        ),
    ),
    Public(
        "text_to_image",
        "huggingface/diffusers, examples/text_to_image (20387d03)",
        (
            "accelerate", "torchvision", "transformers>=4.25.1", "datasets", "ftfy", "tensorboard",
            "Jinja2", "diffusers<0.34",
        ),
        "`diffusers<0.34`: later ones import what torch has since 2.5, and do not say so",
    ),
    Public(
        "whisper",
        "openai/whisper, README's `pip install openai-whisper`",
        ("openai-whisper",),
        "`packages` for ffmpeg, as the README says",
        ("ffmpeg",),
    ),
    Public(
        "yolov5",
        "ultralytics/yolov5 (00104277)",
        (
            "gitpython>=3.1.30", "matplotlib>=3.3", "numpy>=1.23.5", "opencv-python>=4.1.1",
            "pillow>=10.3.0", "psutil", "PyYAML>=5.3.1", "requests>=2.32.2", "scipy>=1.4.1",
            "torch>=1.8.0", "torchvision>=0.9.0", "tqdm>=4.66.3",
            "ultralytics>=8.2.64", "pandas>=1.1.4", "seaborn>=0.11.0", "packaging",
            "setuptools>=70.0.0", 'urllib3>=2.5.0 ; python_version > "3.8"',
        ),
        "without thop, whose files ultralytics-thop has, too; `packages` for OpenCV and GitPython",
        ("git", "libgl1", "libglib2.0-0"),
    ),
    Public(
        "gradio_app",
        "gradio-app/gradio, demo/image_classification (10952193)",
        ("torch", "torchvision", "gradio"),
    ),
    Public(
        "fastchat",
        "lm-sys/FastChat, pyproject.toml (00d9e667)",
        (
            "accelerate", "fastapi", "gradio==3.23", "markdown2[all]", "numpy", "requests",
            "sentencepiece", "tokenizers>=0.12.1", "torch", "uvicorn", "wandb",
            "prompt_toolkit>=3.0.0", "rich>=10.0.0", "transformers", "setuptools<81",
        ),
        "the released `transformers`, not `git+...`; `setuptools<81`, as gradio 3.23 imports "
        "pkg_resources",
    ),
    Public(
        "lightning_hydra",
        "ashleve/lightning-hydra-template (023d4bde)",
        (
            "torch", "torchvision", "pytorch-lightning>=1.2.10", "torchmetrics",
            "hydra-core==1.3.2", "hydra-colorlog", "wandb>=0.10.28", "rich", "python-dotenv",
            "pytest",
            "sh", "pre-commit", "scikit-learn", "pandas", "matplotlib", "seaborn",
        ),
        "without the versions of torch (1.8.1) and of hydra's pre-releases, which are gone "
        "(`hydra-core==1.3.2`); without hydra-optuna-sweeper, which needs Java to be built",
    ),
    Public(
        "sentence_transformers",
        "UKPLab/sentence-transformers, pyproject.toml with `train` (00578421)",
        (
            "transformers>=4.41.0,<5.0.0", "tqdm", "torch>=1.11.0", "scikit-learn", "scipy",
            "huggingface-hub>=0.20.0", "Pillow", "datasets", "accelerate>=0.20.3",
            "sentence-transformers",
        ),
    ),
    Public(
        "qwen",
        "QwenLM/Qwen (0e3cccda)",
        (
            "transformers==4.31.0", "accelerate", "tiktoken", "einops",
            "transformers_stream_generator==0.0.4",
        ),
    ),
)  # fmt: skip
