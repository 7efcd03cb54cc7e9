"""`python -m wheelyard`: the same command as `wheelyard`."""

import sys

from wheelyard.cli import main

sys.exit(main())
