"""The one exception for mistakes the user can mend."""

from __future__ import annotations


class UserError(ValueError):
    """A mistake the user can mend: a wrong path, an unknown name, a value out of range.

    The message is one line: the value got, the value wanted, and how to get it. The command line
    prints that line without a traceback and exits with code 2; anything else that is raised is
    a failure of the program.
    """
