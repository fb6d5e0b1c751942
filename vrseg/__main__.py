"""`python -m vrseg`."""

from __future__ import annotations

import sys

from vrseg.cli import main

sys.exit(main())
