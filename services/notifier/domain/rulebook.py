"""All dated rules of delivery together, asked for one moment."""

from dataclasses import dataclass
from datetime import date, datetime

from services.notifier.domain.audience import Terms
from services.notifier.domain.broadcast import Draft
from services.notifier.domain.lanes import LaneBook, quiet_until
from services.notifier.domain.rules import VIETNAM, DeliveryRules
from shared.directory import Directory, DirectoryView


@dataclass
class Rulebook:
    """What decides who gets what, when and on which lane.

    Attributes:
        rules: of delivery.
        lanes: of all times.
        directory: which unit owns which page, by day.
    """

    rules: DeliveryRules
    lanes: LaneBook
    directory: Directory

    def terms(self, draft: Draft, now: datetime) -> Terms:
        """What planning this draft's recipients rests on at a moment.

        A unit that has ended since the draft was written stands for the one that answers for it now.
        """
        view = self.units(now)
        heirs = self.directory.heirs(view)
        named = {
            name: tuple(dict.fromkeys(heirs.get(slug, slug) for slug in slugs))
            for name, slugs in (("units", draft.audience.units), ("wards", draft.audience.wards))
        }
        return Terms(
            audience=draft.audience.model_copy(update=named),
            offer=draft.offer,
            rules=self.lanes.on(view.day),
            window=self.rules.window_on(view.day),
            unit_by_page=view.unit_by_page,
            heirs=heirs,
            now=now,
        )

    def quiet_until(self, draft: Draft, now: datetime) -> datetime | None:
        """When this may go on, if these are quiet hours; None when it may go on now."""
        policy = self.lanes.on(_day(now)).policy
        return quiet_until(policy, is_emergency=draft.is_emergency, now=now)

    def units(self, now: datetime) -> DirectoryView:
        """The units and pages of a moment."""
        return self.directory.as_of(_day(now))


def _day(now: datetime) -> date:
    return now.astimezone(VIETNAM).date()
