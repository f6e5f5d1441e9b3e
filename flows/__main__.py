"""
The command line's edge: parse, call, one sentence and an exit code.
"""

import gc
import sys
from collections.abc import Sequence

from flows.narration.errors import ExitCode, NarrateError
from flows.narration.files import legible


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run a command and return its exit code; only a fault of the program itself shows a traceback.
    """
    try:
        gc.disable()
        from flows import commands  # here, so that Ctrl-C while it is imported ends as it does later

        gc.freeze()  # of what was imported nothing is garbage, and looking for it took a tenth of a second each time
        gc.enable()
        arguments = commands.parser().parse_args(argv)
        return int(arguments.command(arguments))
    except NarrateError as error:
        print("narrate: " + "\n".join(map(legible, str(error).splitlines())), file=sys.stderr)
        return int(error.exit_code)
    except KeyboardInterrupt:
        print("narrate: interrupted. What was recorded is kept; run the same command again to go on.", file=sys.stderr)
        return int(ExitCode.INTERRUPTED)
    except BrokenPipeError:
        sys.stderr.close()
        return int(ExitCode.FAULT)


if __name__ == "__main__":
    sys.exit(main())
