"""`python -m builder`: the same command as `wheelyard`."""

import sys

from wheelyard.cli import main

sys.exit(main())
