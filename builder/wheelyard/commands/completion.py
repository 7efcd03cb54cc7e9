"""`wheelyard completion`: what a shell needs to complete commands, options and images."""

from __future__ import annotations

import argparse

from wheelyard.context import Context
from wheelyard.options import Command

_EXAMPLES = """\
examples:
  eval "$(wheelyard completion bash)"       # for this shell alone

  mkdir -p ~/.local/share/bash-completion/completions
  wheelyard completion bash > ~/.local/share/bash-completion/completions/wheelyard

  mkdir -p ~/.zfunc
  wheelyard completion zsh > ~/.zfunc/_wheelyard

  mkdir -p ~/.config/fish/completions
  wheelyard completion fish > ~/.config/fish/completions/wheelyard.fish

Files serve every new shell: bash with the package bash-completion, zsh with `fpath+=~/.zfunc` above
compinit in ~/.zshrc. Commands, options and the images of the project are completed. The script
asks `wheelyard` at every Tab, so it stays true when the matrix changes.
"""

COMMAND = Command(
    "print the script that completes commands and images in a shell",
    "Print a completion script for bash, zsh or fish.",
    _EXAMPLES,
    needs_project=False,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("shell", choices=("bash", "zsh", "fish"), help="your shell")


def run(args: argparse.Namespace, _context: Context) -> int:
    """Print the script."""
    from argcomplete.shell_integration import shellcode

    print(shellcode(["wheelyard"], shell=args.shell).strip())
    return 0
