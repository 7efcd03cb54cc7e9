"""`python -m builder`: the same command as `wheelyard`."""

import sys

from builder.cli import main

sys.exit(main())
