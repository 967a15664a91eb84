"""Run the operator: ``python -m tunegate_operator``, which is the command of its image."""

import sys

from tunegate_operator.main import main

sys.exit(main())
