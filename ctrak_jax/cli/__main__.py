"""``python -m ctrak_jax.cli``."""

import sys

from ctrak_jax.cli import main

sys.exit(main())
