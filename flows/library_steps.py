"""
The steps of a library: find the books, cast the voice, see what it costs, have every book made, and report.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx
from anyio import CancelScope
from prefect import get_run_logger
from prefect.artifacts import acreate_markdown_artifact
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import PrefectException
from pydantic import BaseModel

from flows import orders, telling
from flows.account_limit import require
from flows.approval import approve_cost
from flows.credentials import account_of
from flows.endings import labelled
from flows.fleet import Fleet, Job, at_most, deployment_named, fleet, lost, rows_of, tag_of
from flows.knobs import (
    BookChoice,
    BookGroups,
    BookOutput,
    Groups,
    LibraryChoice,
    LibraryOutput,
    Limits,
    Output,
    Scripts,
    VoiceChoice,
)
from flows.narration import catalogue
from flows.narration.books import BookPlan
from flows.narration.catalogue import Purse, Row
from flows.narration.cost import Spent
from flows.narration.errors import ExitCode, Interrupted, NarrateError, StorageAway, UsageError
from flows.narration.plan import Estimate, estimate
from flows.narration.shared import open_store
from flows.narration.speech import Delivery
from flows.narration.takes import key_by
from flows.reporting import waits
from flows.settings import checked
from flows.steps import alone, cast_voice

Parameters = dict[str, Any]


@dataclass(frozen=True)
class Shelf:
    """
    The *books* by their names, and how each is made.
    """

    books: Mapping[str, str]
    choice: LibraryChoice
    deployment: DeploymentResponse
    speech: Delivery
    output: LibraryOutput
    limits: Limits

    def parameters(self, name: str, voice: VoiceChoice) -> Parameters:
        """
        Make the parameters of a book's run: what the library says, over what its deployment says.
        """
        given = {key: {**value} for key, value in self.deployment.parameters.items() if isinstance(value, dict)}
        out = self.output.out if self.choice.kind == "audiobook" else f"{self.output.out.rstrip('/')}/{name}"
        what = self.choice.parameter
        # A run that is a part of this one cannot ask a person: this one does.
        limits = {**given.get("limits", {}), **_chosen(self.limits), "ask_on_warnings": False}
        limits.pop("approve_above_usd", None)
        limits.pop("budget", None)
        own = given.get("limits", {}).get("budget")
        if own is not None:  # no book may spend more, whatever the library's is for all
            limits["budget"] = own
        given.get("output", {}).pop("served_at", None)  # of another folder
        return {
            what: {**given.get(what, {}), what: self.books[name]},
            "voice": _chosen(voice),
            "speech": {**given.get("speech", {}), **_chosen(self.speech)},
            "output": {**given.get("output", {}), **_chosen(self.output), "out": out, **self._served(name)},
            "limits": limits,
            **({"plan": given["plan"]} if "plan" in given else {}),
        }

    def _served(self, name: str) -> Parameters:
        """
        Tell where a book's output folder is served, if it is; an audiobook's is the library's own.
        """
        address = self.output.served_at
        if address and self.choice.kind == "narrate":
            address = f"{address.rstrip('/')}/{quote(name)}"
        return {"served_at": address} if address else {}

    def groups(self, name: str, voice: VoiceChoice) -> Groups | BookGroups:
        """
        Sort the same into the groups of knobs that the run will have.
        """
        given = self.parameters(name, voice)
        speech, limits = checked(Delivery, given["speech"]), checked(Limits, given["limits"])
        shared: dict[str, Any] = {"voice": voice, "speech": speech, "limits": limits}
        if self.choice.kind == "audiobook":
            plan = BookPlan.model_validate(given.get("plan", {}))
            book, output = checked(BookChoice, given["book"]), checked(BookOutput, given["output"])
            return BookGroups(book=book, output=output, plan=plan, **shared)
        return Groups(scripts=checked(Scripts, given["scripts"]), output=checked(Output, given["output"]), **shared)

    def job(self, name: str, voice: VoiceChoice) -> Job:
        """
        Describe a book's run; what it may spend does not count for what it makes.
        """
        given = self.parameters(name, voice)
        what = {key: value for key, value in given.items() if key != "limits"}
        return Job(book=name, parameters=given, tag=tag_of(self.deployment, what))


@dataclass(frozen=True)
class Cast:
    """
    The voice that every book is asked to be narrated in, and the key of takes in it at that *host*.
    """

    voice: VoiceChoice
    id: str
    host: str


@dataclass(frozen=True)
class Means:
    """
    One *purse* for all books, what each that is to be begun *needs* of it (USD), and the runs that are *there* for others.
    """

    purse: Purse
    needs: Mapping[str, float]
    there: Mapping[str, FlowRun]


async def begin_library(choice: LibraryChoice, *, speech: Delivery, output: LibraryOutput, limits: Limits) -> Shelf:
    """
    Find the books and the deployment, and refuse what a person must mend first; nothing is sent.
    """
    telling.in_sentences()
    among: Callable[[Iterable[str]], Sequence[str]] = catalogue.books_among if choice.kind == "audiobook" else lambda names: ()
    apart = (output.out, output.takes_uri)
    books = await asyncio.to_thread(catalogue.books_of, choice.books, books_among=among, apart=apart)
    if any(catalogue.holds(place, output.out) for place in choice.books):
        get_run_logger().info("Left out %s: the folder that the books go to.", output.out)
    await require(limits.account_limit)
    deployment = await deployment_named(choice.through, taking=[choice.parameter, "voice", "speech", "output", "limits"])
    get_run_logger().info("%d books to make through %s, %d at once.", len(books), choice.through, choice.at_once)
    return Shelf(books, choice, deployment, speech, output, limits)


async def one_voice(shelf: Shelf, choice: VoiceChoice) -> Cast:
    """
    Have the voice ready once for all books, so that no two of them make it; one that is sent along is left to each.
    """
    account = await account_of(choice)
    folder = shelf.output.folder / ".voice"
    async with alone(folder):  # not all of OUT, where runs of an earlier library may still write
        _, entry = await cast_voice(
            choice,
            account=account,
            folder=folder,
            patience=shelf.limits,
            ask_on_warnings=shelf.limits.ask_on_warnings,
            shared=shelf.output.shared,
        )
    if choice.instant:
        return Cast(choice, entry.id, account.host)
    ready: Parameters = {"reference": [], "transcript": None, "voice_id": entry.id, "voice_title": entry.title}
    return Cast(choice.model_copy(update=ready), entry.id, account.host)


async def afford(shelf: Shelf, cast: Cast) -> Means:
    """
    Say what each book needs (USD) where there is a budget or somebody to be asked, and refuse what that does not cover.

    What runs begun before have spent, or may spend yet, is known before anything is granted. A book that cannot be read needs
    nothing: its own run will tell. Raises `StorageAway` where nobody can say what is needed.
    """
    limits, purse = shelf.limits, Purse(shelf.limits.budget)
    there: dict[str, FlowRun] = {}
    if limits.budget is None and limits.approve_above_usd is None:
        return Means(purse, dict.fromkeys(shelf.books, 0.0), there)
    if limits.budget is not None:  # looked at before the books are, which may become cheaper meanwhile and not dearer
        there, purse.spent = await _begun_before(shelf, cast)
    needs = {name: await asyncio.to_thread(_estimate, shelf, name, cast) for name in shelf.books}
    total = _sum([need for need in needs.values() if need is not None])
    usd = {name: need.usd if need is not None else 0.0 for name, need in needs.items()}
    get_run_logger().info("About %.4f USD for %.2f hours.", total.usd, total.hours)
    for name, run in there.items():
        need, granted = usd.pop(name), at_most(run)
        purse.reserve(name, need if granted is None else granted)
    catalogue.refuse_to_begin(usd, purse=purse)
    await approve_cost(total, above_usd=limits.approve_above_usd)
    return Means(purse, usd, there)


async def _begun_before(shelf: Shelf, cast: Cast) -> tuple[dict[str, FlowRun], float]:
    """
    Find the runs that make books already or have made them, and what all others that this flow run began may have spent (USD).
    """
    there = {}
    async with fleet(shelf.deployment) as runs:
        for name in shelf.books:
            run = await runs.living(shelf.job(name, cast.voice))
            if run is not None:
                there[name] = run
        return there, await runs.spent(besides=there.values(), spent=_spent_by)


async def _spent_by(run: FlowRun) -> Spent | None:
    """
    Tell what a book's run that crashed was billed, by its ledger; `None` where that is out of reach or says nothing.
    """
    places = {name: value for name, value in run.parameters.get("output", {}).items() if name in ("out", "takes")}
    try:
        takes = checked(LibraryOutput, places).takes_uri
        spent = await asyncio.to_thread(lambda: open_store(takes).spent_by(str(run.id)))
    except (NarrateError, OSError) as error:
        get_run_logger().warning("What “%s” has spent cannot be told: %s", run.name, error)
        return None
    return spent if spent.at_most else None


def _estimate(shelf: Shelf, name: str, cast: Cast) -> Estimate | None:
    try:
        order = orders.order(shelf.groups(name, cast.voice), to_read=True)
    except StorageAway:
        raise
    except UsageError:
        return None
    key_of = key_by(cast.id, delivery=order.delivery, host=cast.host, store=order.store)
    return estimate(
        order.survey,
        model=order.delivery.model,
        speed=order.delivery.speed,
        store=order.store,
        key_of=key_of,
        retakes=order.retakes,
    )


def _sum(needs: list[Estimate]) -> Estimate:
    return Estimate(
        characters=sum(need.characters for need in needs),
        bytes=sum(need.bytes for need in needs),
        segments=sum(need.segments for need in needs),
        usd=sum(need.usd for need in needs),
        hours=sum(need.hours for need in needs),
        bytes_covered=sum(need.bytes_covered or 0 for need in needs),
    )


@asynccontextmanager
async def told() -> AsyncIterator[list[Row]]:
    """
    Label the run with how the block ends, and tell it to whoever listens, with the books that the block puts into the list.
    """
    rows: list[Row] = []
    try:
        async with labelled():
            yield rows
    except BaseException as error:
        if not waits(error):
            stopped = isinstance(error, Interrupted) or not isinstance(error, Exception)
            with CancelScope(shield=True):
                await telling.library_ended("cancelled" if stopped else "failed", rows, error="" if stopped else str(error))
        raise
    await telling.library_ended("completed", rows)


async def make_all(shelf: Shelf, cast: Cast, means: Means, *, rows: list[Row]) -> dict[str, Any]:
    """
    Have every book made, begun in order and so many at once, and report in *rows* at whatever end; raise the worst error.
    """
    done: list[Row] = []
    try:
        async with fleet(shelf.deployment) as runs:
            await _Making(shelf, cast, means, runs, done).all()
    finally:
        rows += rows_of(shelf.books, done)
        with CancelScope(shield=True):
            await _report(rows)
    error = catalogue.worst(rows)
    if error is not None:
        raise error
    return {"books": [vars(row) for row in rows]}


async def _report(rows: list[Row]) -> None:
    told = catalogue.headline(rows)
    get_run_logger().info("%s", told)
    await acreate_markdown_artifact(catalogue.report(rows), key="narrate-library", description=told)


class _Making:
    """
    The books of a library under way.
    """

    def __init__(self, shelf: Shelf, cast: Cast, means: Means, runs: Fleet, rows: list[Row]) -> None:
        self._shelf, self._cast, self._means, self._runs, self._rows = shelf, cast, means, runs, rows
        self._purse = means.purse
        self._turns = asyncio.Semaphore(shelf.choice.at_once)
        self._hopeless = False

    async def all(self) -> None:
        """
        Begin one after the other, as turns come free.
        """
        later = sum(self._means.needs.values())
        async with asyncio.TaskGroup() as making:
            for name in self._shelf.books:
                await self._turns.acquire()
                if self._hopeless:
                    return
                job = self._shelf.job(name, self._cast.voice)
                there = self._means.there.get(name)
                if there is None:
                    needs = self._means.needs[name]
                    later = max(0.0, later - needs)
                    share = self._purse.grant(name, needs=needs, later=later)
                else:  # what it may spend is kept for it since before the first was begun
                    share = self._purse.granted[name]
                _cap(job, share)
                making.create_task(self._one(job, there))

    async def _one(self, job: Job, there: FlowRun | None) -> None:
        name = job.book
        try:
            living = there or await self._runs.living(job)
            if living is not there and living is not None:  # somebody has begun it since
                self._purse.reserve(name, at_most(living) or self._purse.granted.get(name, 0.0))
                _cap(job, self._purse.granted[name] if self._purse.budget is not None else None)
            row = await self._runs.made(job, living, spent=_spent_by)
            self._purse.settle(name, row.usd_at_most)
            self._rows.append(row)
            self._hopeless |= self._purse.is_hopeless(row)
            get_run_logger().info("%s: %s, %.1f minutes, %.4f USD.", name, row.state, row.minutes, row.usd)
        except (PrefectException, httpx.HTTPStatusError) as error:  # its run or its deployment is gone, say
            self._purse.settle(name, None)
            self._rows.append(Row(name, state="failed", usd_at_most=None, code=ExitCode.SCRIPTS_FAILED, error=lost(error)))
            get_run_logger().error("%s: %s", name, lost(error))
        finally:
            self._turns.release()


def _cap(job: Job, share: float | None) -> None:
    """
    Have a book's run spend no more than its *share*, nor than its deployment says.
    """
    if share is not None:
        limits = job.parameters["limits"]
        limits["budget"] = min(share, limits.get("budget", share))


def _chosen(group: BaseModel) -> Parameters:
    """
    Tell of a group what is not as it is by default; there the deployment's own counts.
    """
    return group.model_dump(mode="json", exclude_defaults=True, exclude_none=True)
