"""
From the groups of knobs to an order, refusing first what a person must mend: the command line and the flow begin here.
"""

import json
import os
from contextlib import suppress
from contextvars import ContextVar
from math import isinf
from pathlib import Path
from typing import Any

from flows import settings
from flows.knobs import BookChoice, BookGroups, BookOutput, Groups, Limits, Output, Scripts, VoiceChoice
from flows.narration import edition, plan
from flows.narration.assemble import Pauses, Sound
from flows.narration.books import Book, BookPlan
from flows.narration.brought import bring_beside, brought, copy_of, told_of
from flows.narration.contour import contour_name
from flows.narration.edition import BookOrder
from flows.narration.errors import UsageError
from flows.narration.files import replacing
from flows.narration.manifest import RUN, segments_name
from flows.narration.mastering import level_profile
from flows.narration.mirror import Mirror, folder_of, mirror_of
from flows.narration.order import Order
from flows.narration.production import Production
from flows.narration.retakes import Retakes
from flows.narration.segments import Cutting
from flows.narration.speech import Delivery
from flows.narration.storage import is_remote, name_within, within
from flows.narration.voice import refuse_recordings

ASKED = ".asked.json"
"""In OUT: what the last run was asked for."""

COMMON: dict[str, type[Any]] = {"voice": VoiceChoice, "speech": Delivery, "limits": Limits}

_approved: ContextVar[float] = ContextVar("approved", default=0.0)
_ahead: ContextVar[tuple[Groups | BookGroups, Order] | None] = ContextVar("ahead", default=None)


def survey(*, scripts: Scripts, output: Output) -> plan.Survey:
    """
    Read and cut the scripts; those in object storage without what was made of them, if that is among them.
    """
    source = brought(scripts.scripts, apart=(output.out, output.takes_uri))
    made = name_within(output.out, scripts.scripts)
    with told_of(scripts.scripts), told_of(output.out, output.folder):
        return plan.survey(
            source,
            out=output.folder,
            apart=source / made if made else None,
            sound=output,
            cutting=scripts,
            encoding=scripts.encoding,
        )


def approve(usd: float) -> None:
    """
    Have nobody asked for so many USD more in this very process: a person has just wanted them spent.
    """
    _approved.set(usd)


def _above(limits: Limits) -> float | None:
    approved = _approved.get()
    return None if limits.approve_above_usd is None or isinf(approved) else limits.approve_above_usd + approved


def order_ahead(groups: Groups | BookGroups) -> Order:
    """
    Make the order, and have the flow that this very process runs next for the same *groups* go by it.
    """
    _ahead.set(None)
    made = order(groups)
    _ahead.set((groups, made))
    return made


def order_again(groups: Groups | BookGroups) -> Order:
    """
    Make the order of what there is to read by now, whatever was made ahead.
    """
    _ahead.set(None)
    return order(groups)


def order(groups: Groups | BookGroups, *, to_read: bool = False) -> Order:
    """
    Raise `UsageError` for whatever is wrong with what was asked for; nothing was sent, and only OUT may have been made.

    With *to_read* the order is only looked at: of an OUT in object storage records are brought, and nothing else. What
    `order_ahead` made of the same *groups* is taken: the scripts are narrated as they were when the command began.
    """
    ahead = _ahead.get()
    if ahead is not None and ahead[0] == groups:
        return ahead[1]
    voice = groups.voice
    if not voice.credentials:
        settings.account()
    refuse_recordings([*map(str, map(brought, voice.reference))], transcript=voice.transcript, instant=voice.instant)
    return _of_book(groups, to_read=to_read) if isinstance(groups, BookGroups) else _of_scripts(groups, to_read=to_read)


def _of_scripts(groups: Groups, *, to_read: bool) -> Order:
    output, limits = groups.output, groups.limits
    # What stands in object storage is known before it is looked at; a folder is made here once there is something to narrate.
    places = output.places(to_read=to_read) if is_remote(output.out) else None
    read = survey(scripts=groups.scripts, output=output)
    out, store, mirror = places or output.places(to_read=to_read)
    plan.refuse_folded(read, out=out)
    if mirror is not None:
        for reading in read.readings:
            script = reading.script
            mirror.refuse((script.audio, segments_name(script.name), contour_name(script.name)))
    return Order(
        survey=read,
        out=out,
        store=store,
        mirror=mirror,
        links=settings.links_of(output, out),
        delivery=groups.speech,
        sound=output,
        patience=limits,
        budget_usd=limits.budget,
        approve_above_usd=_above(limits),
        account_limit=limits.account_limit,
        retakes=Retakes.of(out),
        language=groups.scripts.language,
    )


def read_book(chosen: BookChoice, book_plan: BookPlan) -> tuple[Book, Cutting]:
    """
    Read a book that was brought, and say how it is cut.
    """
    if book_plan.cover is not None:
        bring_beside(chosen.book, book_plan.cover)
    with told_of(chosen.book):
        return edition.read(copy_of(chosen.book), book_plan, encoding=chosen.encoding, cutting=chosen)


def bring_book(book: str, output: BookOutput) -> Path:
    """
    Bring a *book*, without what was made of it, if that is among its chapters, and return where it is.
    """
    return brought(book, apart=(output.out, output.takes_uri))


def plan_of(book: str) -> BookPlan:
    """
    Read the plan that lies beside a *book* that was brought.
    """
    with told_of(book):
        return edition.plan_beside(copy_of(book))


def _of_book(groups: BookGroups, *, to_read: bool) -> BookOrder:
    output, limits = groups.output, groups.limits
    source = bring_book(groups.book.book, output)
    book_plan = groups.plan if groups.plan != BookPlan() else plan_of(groups.book.book)
    profile = level_profile(output.profile or book_plan.profile or edition.PROFILE)
    book, cutting = read_book(groups.book, book_plan)
    parts = edition.spoken(book, book_plan)
    read = edition.survey(source, parts, book, cutting=cutting)
    out, store, mirror = output.places(edition.folder_of(book, output.folder).name, to_read=to_read)
    made = BookOrder(
        survey=read,
        out=out,
        store=store,
        mirror=mirror,
        links=settings.links_of(output, out.parent),
        delivery=groups.speech,
        sound=Sound(**output.model_dump(include=set(Pauses.model_fields))),
        patience=limits,
        budget_usd=limits.budget,
        approve_above_usd=_above(limits),
        account_limit=limits.account_limit,
        source=source,
        book=book,
        plan=book_plan,
        profile=profile,
        spoken=parts,
        retakes=Retakes.of(out),
    )
    with told_of(within(output.out, out.name), out):
        edition.refuse_another_s(made)
    if mirror is not None:
        mirror.refuse(edition.file_names(made))
    return made


def remember(groups: Groups | BookGroups, order: Order) -> None:
    """
    Leave in OUT what was asked for, without a key, so that a retake is made just so; a disk that is full is no reason to fail.
    """
    kind = "audiobook" if isinstance(groups, BookGroups) else "narrate"
    asked = {name: group.model_dump(mode="json") for name, group in vars(groups).items()}
    text = json.dumps({"schema": 1, "kind": kind, "folder": str(Path.cwd()), "asked": asked}, ensure_ascii=False)
    with suppress(OSError):
        order.out.mkdir(parents=True, exist_ok=True)
        with replacing(order.out / ASKED) as temporary:
            temporary.write_text(text, encoding="utf-8")


def leave_refused(production: Production, *, error: str, as_json: bool) -> None:
    """
    Leave in OUT what a run says that was refused before it began, unless another works there in object storage.
    """
    manifest, mirror = production.finish(state="failed", error=error), production.order.mirror
    if mirror is not None:
        with suppress(OSError):  # what was refused counts for more
            mirror.put_if_free(RUN)
    if as_json:
        print(json.dumps(manifest.model_dump(mode="json"), ensure_ascii=False))


def made_at(uri: str) -> tuple[Path, Mirror | None]:
    """
    Return the folder that an earlier run made at *uri*, and its mirror where that is but a copy.
    """
    mirror = mirror_of(uri)
    return (mirror.folder if mirror else folder_of(uri).resolve()), mirror


def remembered(out: Path) -> Groups | BookGroups:
    """
    Return what the last run into *out* was asked for, relative to the folder it ran in, which becomes this process's.

    Raises `UsageError` where that is not known, or *out* is no longer where it was.
    """
    try:
        said = json.loads((out / ASKED).read_text(encoding="utf-8"))
        folder, asked = Path(said["folder"]), said["asked"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"It is not known what {out} was made of.", "Run the command that made it once more.") from error
    here = out.resolve()
    try:
        os.chdir(folder)
    except OSError as error:
        if not _is_anywhere(asked):
            raise UsageError(
                f"{folder}, where it was made, is not there.", "Run the command that made it once more."
            ) from error
    groups = _groups(said.get("kind"), asked)
    made_in = groups.output.folder.resolve()
    if here not in (made_in, groups.output.of_book(here.name).resolve()):
        raise UsageError(
            f"{out} was made as {made_in} and has moved.", "Run the command that made it once more, with its --out."
        )
    return groups


def _is_anywhere(asked: dict[str, Any]) -> bool:
    """
    Say whether all that a run reads and writes is in object storage, so that it matters not where it is started.
    """
    source = asked.get("scripts", {}).get("scripts") or asked.get("book", {}).get("book") or ""
    return all(map(is_remote, [source, asked["output"]["out"], *asked["voice"]["reference"]]))


def _groups(kind: object, asked: dict[str, Any]) -> Groups | BookGroups:
    book = kind == "audiobook"
    kinds: dict[str, type[Any]] = {**COMMON, **({"book": BookChoice} if book else {"scripts": Scripts})}
    made: dict[str, Any] = {name: settings.checked(group, asked[name]) for name, group in kinds.items()}
    if book:
        plan_asked = BookPlan.model_validate_json(json.dumps(asked["plan"]))
        return BookGroups(**made, output=settings.checked(BookOutput, asked["output"]), plan=plan_asked)
    return Groups(**made, output=settings.checked(Output, asked["output"]))
