"""``python -m tunegate_trainer ROLE``."""

import sys

from tunegate_trainer.main import main

sys.exit(main())
