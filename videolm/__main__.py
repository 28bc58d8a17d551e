"""`python -m videolm`: the same as the `videolm` command."""

import sys

from videolm.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
