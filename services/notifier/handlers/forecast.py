"""What sending to an audience would come to now: for a preview, and for anybody who only asks. Changes nothing."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from services.notifier.domain.audience import NOBODY, ContactView, Had, Terms, plan
from services.notifier.domain.broadcast import Draft, Forecast
from services.notifier.domain.copies import slice_of
from services.notifier.domain.lanes import Chosen, Refused, article_problem
from services.notifier.domain.rulebook import Rulebook
from services.notifier.domain.rules import VIETNAM
from services.notifier.handlers.ports import Clock

SLICE_CONTACTS = 1_000
SLICES_AT_ONCE = 3
"""So many slices are read and planned side by side, and held in memory."""


class AudienceSource(Protocol):
    """The contacts, person by person; see `adapters/audience_store.py`."""

    async def size(self) -> int:
        """About how many contacts there are."""
        ...

    async def in_slice(self, lower: str, upper: str) -> list[list[ContactView]]:
        """The contacts of the persons of one slice."""
        ...

    async def of_citizens(self, citizen_keys: Sequence[str]) -> list[list[ContactView]]:
        """All contacts of the persons these citizens are."""
        ...


class CapSource(Protocol):
    """What persons had lately."""

    async def had(self, keys_by_person: Mapping[str, Sequence[str]], *, now: datetime) -> Mapping[str, Had]:
        """Broadcasts of the last day and week; those with none are missing."""
        ...


class ArticleCounts(Protocol):
    """Article broadcasts of a page."""

    async def sent_since(self, page: str, since: datetime) -> int:
        """How many may have gone out since."""
        ...


@dataclass(frozen=True)
class Forecaster:
    """Answers what would happen."""

    audience: AudienceSource
    caps: CapSource
    articles: ArticleCounts
    rulebook: Rulebook
    clock: Clock

    def units(self) -> frozenset[str]:
        """The units of today."""
        return frozenset(self.rulebook.units(self.clock.now()).units)

    def pages(self, units: Sequence[str]) -> list[str]:
        """The pages of these units today; of none named, all."""
        by_page = self.rulebook.units(self.clock.now()).unit_by_page
        return sorted(page for page, unit in by_page.items() if not units or unit in units)

    def terms(self, draft: Draft) -> Terms:
        """What planning this draft now rests on."""
        return self.rulebook.terms(draft, self.clock.now())

    async def forecast(self, draft: Draft, *, citizens: Sequence[str] = ()) -> Forecast:
        """Plan every person of the audience, as the ledger would be planned now.

        Args:
            draft: what would be sent.
            citizens: ask about these alone; the audience's filters hold all the same.

        Raises:
            StoreUnavailable: ask again.
        """
        if draft.content.article is not None:
            return await self._article(draft)
        terms = self.terms(draft)
        lanes, costs, refused, pages = Counter[str](), Counter[str](), Counter[str](), Counter[str]()

        async def count(persons: list[list[ContactView]]) -> None:
            keys = {same[0].person: [contact.reach.citizen_key for contact in same] for same in persons}
            had = await self.caps.had(keys, now=terms.now)
            for contacts in persons:
                planned = plan(contacts, terms, had.get(contacts[0].person, NOBODY))
                if planned is None:
                    continue
                if isinstance(planned.choice, Chosen):
                    lanes[planned.choice.lane] += 1
                    costs[planned.choice.cost] += 1
                    pages[planned.choice.reach.page] += 1
                else:
                    refused[planned.choice.reason] += 1

        await self._each_slice(citizens, count)
        return Forecast(
            people=lanes.total() + refused.total(),
            lanes=dict(lanes),
            costs=dict(costs),
            refused=dict(refused),
            pages=dict(pages),
            quiet_until=self.rulebook.quiet_until(draft, terms.now),
        )

    async def _each_slice(
        self, citizens: Sequence[str], work: Callable[[list[list[ContactView]]], Awaitable[None]]
    ) -> None:
        """Do something with all contacts, slice by slice; the database reads while we plan.

        Raises:
            StoreUnavailable: some slices are done.
        """
        if citizens:
            await work(await self.audience.of_citizens(citizens))
            return
        count = max(1, await self.audience.size() // SLICE_CONTACTS)
        parts = iter([slice_of(number, count) for number in range(count)])

        async def reader() -> None:
            for part in parts:
                if persons := await self.audience.in_slice(part.first, part.end):
                    await work(persons)

        readers = [asyncio.create_task(reader()) for _ in range(SLICES_AT_ONCE)]
        try:
            await asyncio.gather(*readers)
        finally:
            for one in readers:
                one.cancel()

    async def _article(self, draft: Draft) -> Forecast:
        """An article goes to all followers of its pages; nobody can be left out of it."""
        article = draft.content.article
        reaches_opted_out = article is not None and article.reaches_opted_out
        lanes, refused, pages, verdicts = Counter[str](), Counter[str](), Counter[str](), dict[str, str]()
        for page, (followers, opted_out) in (await self.followers(draft.audience.units)).items():
            refusal = await self.article_refusal(page, opted_out=opted_out, reaches_opted_out=reaches_opted_out)
            verdicts[page] = "article" if refusal is None else refusal.reason
            if refusal is None:
                lanes["article"] += followers
                pages[page] = followers
            else:
                refused[refusal.reason] += followers
        return Forecast(
            people=lanes.total() + refused.total(),
            lanes=dict(lanes),
            costs={"free": lanes.total()} if lanes else {},
            refused=dict(refused),
            pages=dict(pages),
            articles=verdicts,
            quiet_until=self.rulebook.quiet_until(draft, self.clock.now()),
        )

    async def followers(self, units: Sequence[str]) -> dict[str, tuple[int, int]]:
        """By page of these units: its followers, and those of them who want no broadcasts, told to whatever page."""
        followers, opted_out = Counter[str](), Counter[str]()

        async def count(persons: list[list[ContactView]]) -> None:
            for contacts in persons:
                followed = [contact.reach.page for contact in contacts if contact.is_follower]
                followers.update(followed)
                if any(contact.reach.opted_out for contact in contacts):
                    opted_out.update(followed)

        await self._each_slice((), count)
        return {page: (followers[page], opted_out[page]) for page in self.pages(units)}

    async def article_refusal(self, page: str, *, opted_out: int, reaches_opted_out: bool) -> Refused | None:
        """Why an article may not be broadcast on a page now; None when it may."""
        now = self.clock.now()
        today = now.astimezone(VIETNAM).replace(hour=0, minute=0, second=0, microsecond=0)
        return article_problem(
            self.rulebook.lanes,
            page,
            sent_this_month=await self.articles.sent_since(page, today.replace(day=1)),
            sent_today=await self.articles.sent_since(page, today),
            opted_out=opted_out,
            reaches_opted_out=reaches_opted_out,
            now=now,
        )
