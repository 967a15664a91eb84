"""Import the libraries that train, before other modules do, without packages that they do not need."""

import logging
from importlib import import_module
from unittest.mock import patch

from tunegate_trainer.process.packages import hide, show_all

logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # as in roles
# It prepares the compilation of functions that it needs only for odd shapes, which takes a second. PEFT would
# import it too.
with patch("torch.compile", lambda function=None, **_: function or (lambda function: function)):
    import_module("bitsandbytes")
hide("scipy", "sklearn", "wandb")  # as roles do
import_module("tunegate_trainer.roles.train")
show_all()
