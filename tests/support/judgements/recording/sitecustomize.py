"""Record the judgements of a process, see :mod:`support.judgements.recorder`.

Python imports this module when it starts, if this folder is in PYTHONPATH. Tests start many processes, which
inherit PYTHONPATH and the variable with the folder for the records.
"""

import os
import sys
from pathlib import Path

if folder := os.environ.get("TUNEGATE_RECORD_JUDGEMENTS"):
    sys.path.append(str(Path(__file__).parents[3]))
    from support.judgements.recorder import install

    install(Path(folder))
