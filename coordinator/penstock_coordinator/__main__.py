"""`python -m penstock_coordinator`."""

import sys

from penstock_coordinator.main import main

sys.exit(main())
