"""``python -m tunegate_trainer ROLE``."""

from tunegate_trainer.main import leave, main

leave(main())
