"""``python -m tunegate_operator``: the operator, as its image runs it."""

import sys

from tunegate_operator.main import main

sys.exit(main())
