"""Lanes: the permitted ways to reach a person, chosen by dated rules. Every choice and every refusal has a reason.

One function decides for a preview ("what would happen if I sent this to these people now"), for the ledger of a
broadcast, and again at the moment of sending.

Source: `data/delivery/lanes.yaml`, docs/architecture/broadcasts.md.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal, Protocol, TypeAlias, TypeVar

from services.notifier.domain.permission import has_withdrawn
from services.notifier.domain.rules import VIETNAM, WindowRule, next_local_hour

Lane = Literal["answer", "consultation", "article", "template_user", "template_phone"]
Cost = Literal["free", "package", "billed"]
PERSONAL_LANES: tuple[Lane, ...] = ("answer", "consultation", "template_user", "template_phone")
"""Cheapest and most certain first; the order in which they are tried."""


class Dated(Protocol):
    """A rule that holds for some time."""

    @property
    def valid_from(self) -> date:
        """The first day."""
        ...

    @property
    def valid_to(self) -> date | None:
        """The first day on which it no longer holds."""
        ...


D = TypeVar("D", bound=Dated)


@dataclass(frozen=True)
class Hours:
    """Local hours from the first, before the second; the second may be on the next day (21 to 7)."""

    first: int
    end: int

    def holds(self, at: datetime) -> bool:
        """Whether a moment is inside."""
        hour = at.astimezone(VIETNAM).hour
        return self.first <= hour < self.end if self.first <= self.end else hour >= self.first or hour < self.end

    def next_end(self, at: datetime) -> datetime:
        """When the hours end that a moment is inside of, or the next ones."""
        return next_local_hour(at, self.end)

    def next_start(self, at: datetime) -> datetime:
        """When they begin next."""
        return next_local_hour(at, self.first)


@dataclass(frozen=True)
class LaneRule:
    """What one lane is bound to, from a day on; see `data/delivery/lanes.yaml`."""

    lane: Lane
    valid_from: date
    valid_to: date | None
    window: Literal["free", "allowed"] | None
    hours: Hours | None
    cost: Cost


@dataclass(frozen=True)
class ArticleRule:
    """How often articles may be broadcast."""

    valid_from: date
    valid_to: date | None
    per_follower_a_day: int
    per_page_a_month: Mapping[str, int | None]


@dataclass(frozen=True)
class Policy:
    """Our own rules: personal caps over all pages, and quiet hours."""

    valid_from: date
    valid_to: date | None
    a_day: int
    a_week: int
    quiet_hours: Hours


@dataclass(frozen=True)
class LaneBook:
    """All lane rules of all times."""

    lanes: tuple[LaneRule, ...]
    articles: tuple[ArticleRule, ...]
    policies: tuple[Policy, ...]
    packages: Mapping[str, str]
    article_targets: Mapping[str, int]

    def on(self, day: date) -> "LanesOfDay":
        """The rules of one day in Vietnam."""
        return LanesOfDay(
            {lane: rule for lane in _LANES if (rule := valid_on(self._of(lane), day)) is not None},
            valid_on(self.articles, day),
            valid_on(self.policies, day) or self.policies[0],
        )

    def _of(self, lane: Lane) -> list[LaneRule]:
        return [rule for rule in self.lanes if rule.lane == lane]

    def package_of(self, page: str) -> str:
        """The package a page has bought."""
        return self.packages.get(page) or self.packages["default"]


_LANES: tuple[Lane, ...] = (*PERSONAL_LANES, "article")


@dataclass(frozen=True)
class LanesOfDay:
    """The rules that hold on one day."""

    lanes: Mapping[Lane, LaneRule]
    article: ArticleRule | None
    policy: Policy


def valid_on(rules: Sequence[D], day: date) -> D | None:
    """The newest rule that holds on a day."""
    valid = [rule for rule in rules if rule.valid_from <= day and (rule.valid_to is None or day < rule.valid_to)]
    return max(valid, key=lambda rule: rule.valid_from, default=None)


@dataclass(frozen=True)
class Offer:
    """What a content can be sent as.

    Attributes:
        lanes: those that its content has a form for.
        pays: whether lanes that cost something may be used.
        is_emergency: people are in danger now: no quiet hours, no personal cap.
    """

    lanes: frozenset[Lane]
    pays: bool
    is_emergency: bool


@dataclass(frozen=True, slots=True)
class Reach:
    """One person on one page, as far as reaching them goes.

    Attributes:
        unfollowed: they left the page; somebody of whom neither a follow nor an unfollow is known has not.
        opted_out: they told us, on this page, to send no broadcasts.
        phone: a number they gave us, as Zalo takes it (84…).
    """

    citizen_key: str
    page: str
    oa_id: str
    user_id: str
    unfollowed: bool = False
    opted_out: bool = False
    last_interaction_at: datetime | None = None
    withdrawn_at: datetime | None = None
    phone: str | None = None

    @property
    def is_withdrawn(self) -> bool:
        """They asked for the end of their data here and have not come back since."""
        return has_withdrawn(self.withdrawn_at, self.last_interaction_at)


@dataclass(frozen=True, slots=True)
class Chosen:
    """The lane, and the page on which to use it."""

    lane: Lane
    cost: Cost
    reach: Reach


@dataclass(frozen=True, slots=True)
class Refused:
    """There is no permitted lane; the reason is that of the most promising page.

    Attributes:
        reason: stable code.
        until: when it may be otherwise, where time alone changes it.
    """

    reason: str
    until: datetime | None = None


Choice: TypeAlias = Chosen | Refused

_COST_ORDER: dict[Cost, int] = {"free": 0, "package": 1, "billed": 2}


def zalo_phone(told: object) -> str | None:
    """A mobile number of Vietnam as Zalo takes it; None for anything else.

    Args:
        told: what a person wrote or Zalo passed on: 0901…, 84901…, +84 901…, or a number.
    """
    digits = re.sub(r"[\s.\-+()]", "", str(told))
    digits = "84" + digits[1:] if digits.startswith("0") else digits
    return digits if re.fullmatch(r"84[0-9]{9}", digits) else None


def choose_lane(reaches: Sequence[Reach], offer: Offer, rules: LanesOfDay, window: WindowRule, now: datetime) -> Choice:
    """Choose how to reach one person.

    Args:
        reaches: the person on each of our pages they may be reached on; not empty.
        offer: what the content can be sent as.
        rules: of the day of `now`.
        window: the consultation window of that day.
        now: by the database's clock.

    Returns:
        The cheapest permitted lane, on the page the person used last; or why there is none.
    """
    if any(reach.opted_out for reach in reaches):
        return Refused("contact.opted_out")
    best: Chosen | None = None
    refusal: Refused | None = None
    for reach in sorted(reaches, key=_recency, reverse=True):
        choice = _on_page(reach, offer, rules, window, now)
        if isinstance(choice, Chosen):
            if best is None or _COST_ORDER[choice.cost] < _COST_ORDER[best.cost]:
                best = choice
        elif refusal is None:
            refusal = choice
    return best or refusal or Refused("lane.none")


def _recency(reach: Reach) -> float:
    # One who left or withdrew is the last to be asked why the others cannot be reached.
    if reach.unfollowed or reach.is_withdrawn:
        return -1.0
    return reach.last_interaction_at.timestamp() if reach.last_interaction_at is not None else 0.0


def _on_page(reach: Reach, offer: Offer, rules: LanesOfDay, window: WindowRule, now: datetime) -> Choice:
    if reach.is_withdrawn:
        return Refused("contact.withdrawn")
    if reach.unfollowed:
        return Refused("contact.unfollowed")
    refusal: Refused | None = None
    for lane in PERSONAL_LANES:
        if lane not in offer.lanes:
            continue
        rule = rules.lanes.get(lane)
        problem = Refused("lane.not_offered") if rule is None else _problem(reach, offer, rule, window, now)
        if rule is not None and problem is None:
            return Chosen(lane, rule.cost, reach)
        # What the last lane lacks says most: it asks least of the person.
        refusal = problem if problem is not None else refusal
    return refusal or Refused("lane.none")


def _problem(reach: Reach, offer: Offer, rule: LaneRule, window: WindowRule, now: datetime) -> Refused | None:
    if rule.window is not None:
        if reach.last_interaction_at is None:
            return Refused("window.unknown")
        age = now - reach.last_interaction_at
        if age >= window.allowed:
            return Refused("window.closed")
        if rule.window == "free" and age >= window.free:
            return Refused("window.beyond_free")
    if rule.cost != "free" and not offer.pays:
        return Refused("window.beyond_free" if rule.window is not None else "lane.costs")
    if rule.lane == "template_phone" and not reach.phone:
        return Refused("contact.no_phone")
    if rule.hours is not None and not rule.hours.holds(now):
        return Refused("lane.night", rule.hours.next_start(now))
    return None


def quiet_until(policy: Policy, *, is_emergency: bool, now: datetime) -> datetime | None:
    """When a broadcast may go on, if these are quiet hours; None when it may go on now."""
    if is_emergency or not policy.quiet_hours.holds(now):
        return None
    return policy.quiet_hours.next_end(now)


def cap_reached(policy: Policy, *, in_a_day: int, in_a_week: int, is_emergency: bool) -> Refused | None:
    """Whether a person has had their share of broadcasts, all pages together."""
    if is_emergency:
        return None
    if in_a_day >= policy.a_day:
        return Refused("cap.day")
    return Refused("cap.week") if in_a_week >= policy.a_week else None


def article_problem(
    book: LaneBook,
    page: str,
    *,
    sent_this_month: int,
    sent_today: int,
    opted_out: int,
    reaches_opted_out: bool,
    now: datetime,
) -> Refused | None:
    """Why an article may not be broadcast on a page now; None when it may.

    Args:
        book: all rules.
        page: its slug.
        sent_this_month: article broadcasts of the page since the first of the month.
        sent_today: those of today.
        opted_out: followers of the page who want no broadcasts; Zalo cannot leave them out.
        reaches_opted_out: whether the draft says, and a second person approved, that they get it all the same.
        now: by the database's clock.
    """
    rules = book.on(now.astimezone(VIETNAM).date())
    rule, article = rules.lanes.get("article"), rules.article
    if rule is None or article is None:
        return Refused("lane.not_offered")
    if opted_out and not reaches_opted_out:
        return Refused("article.reaches_opted_out")
    allowed = article.per_page_a_month.get(book.package_of(page), 0)
    if allowed is not None and sent_this_month >= allowed:
        return Refused("article.month_used")
    if sent_today >= article.per_follower_a_day:
        return Refused("article.day_used", next_local_hour(now, rule.hours.first if rule.hours is not None else 0))
    if rule.hours is not None and not rule.hours.holds(now):
        return Refused("lane.night", rule.hours.next_start(now))
    return None
