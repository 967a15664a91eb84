"""Write commands as the user who reads them would."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Caller:
    """How the user called this command, so that the commands in its output can be called in the same way."""

    program: str = "tunegate"
    options: str = ""
    """The options that select the place of the jobs, such as `` --runs FOLDER``; empty for the default."""

    def command(self, name: str, *arguments: str) -> str:
        """Return a command line of this program for the same place."""
        return f"{self.program} {' '.join((name, *arguments))}{self.options}"


TUNEGATE = Caller()
"""The command ``tunegate`` without options, for the default runs folder."""
