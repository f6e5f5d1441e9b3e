"""
What a run or a script ends with when something went wrong: of many errors, the one to tell.
"""

from collections.abc import Sequence

from flows.narration.errors import ExitCode, NarrateError, ScriptsFailed
from flows.narration.manifest import ScriptEntry
from flows.narration.segments import Segment

ENDS = (
    ExitCode.INTERRUPTED,
    ExitCode.USAGE,
    ExitCode.KEY,
    ExitCode.MONEY,
    ExitCode.SERVICE,
    ExitCode.VOICE,
    ExitCode.VOICE_TIMEOUT,
)
"""What ends a whole run, the first before the others; any other error is that of the script it struck."""


def worst(errors: Sequence[BaseException], *, entries: Sequence[ScriptEntry]) -> NarrateError | None:
    """
    Of what went wrong in a run, make the one error it ends with: key before money before service before scripts.
    """
    for fault in errors:
        if not isinstance(fault, NarrateError):
            raise fault
    ours = [error for error in errors if isinstance(error, NarrateError)]
    for code in ENDS:
        for error in ours:
            if error.exit_code == code:
                return error
    failed = [entry for entry in entries if entry.state == "failed"]
    if not failed:
        return None
    lines = "\n".join(f"  {entry.error}" for entry in failed)
    others = "The others are done and kept; run" if len(failed) < len(entries) else "Run"
    return ScriptsFailed(
        f"{len(failed)} of {len(entries)} scripts failed:\n{lines}\n", f"{others} it again to record only what is missing."
    )


def located(failed: Sequence[tuple[Segment, NarrateError]], *, script: str) -> NarrateError:
    """
    Say where in the script each error struck; an error of the whole run stays as it is.
    """
    whole = next((error for _, error in failed if not isinstance(error, ScriptsFailed)), None)
    if whole is not None:
        return whole
    facts = [f"{script}, line {segment.line}: {error.fact} Missing: “{segment.text}”" for segment, error in failed]
    return ScriptsFailed("\n".join(facts), "Run it again to record only what is missing.")
