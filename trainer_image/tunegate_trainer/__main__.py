"""``python -m tunegate_trainer ROLE``."""

from tunegate_trainer.main import exit_at_once, main

exit_at_once(main())
