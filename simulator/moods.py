"""Bad moods on demand: what a real Zalo does on a bad day, by probability or count, the same for the same seed."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

ApiMoodName = Literal["slow", "rate_limited", "http_429", "refuse", "reply_lost", "page_disabled", "token_revoked"]
WebhookMoodName = Literal["webhook_duplicate", "webhook_reordered", "webhook_late", "webhook_silent"]
SENDING = "/v3.0/oa/message/"


class MoodRequest(BaseModel):
    """A mood to bring about.

    API moods act on calls whose path starts with `path` ("*" means every call, OAuth included); webhook moods act
    on events whose name starts with `event`. `count` ends the mood after so many hits.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    mood: ApiMoodName | WebhookMoodName
    probability: Annotated[float, Field(gt=0, le=1)] = 1.0
    count: Annotated[int, Field(ge=1)] | None = None
    page: str = Field("", description="Slug or id of the only page concerned; empty for all.")
    path: str = SENDING
    event: str = ""
    seconds: Annotated[float, Field(ge=0, le=600)] = 3.0
    code: Annotated[int, Field(lt=0)] = -200


@dataclass(slots=True)
class Mood:
    """A mood at work, with its own dice."""

    mood_id: int
    request: MoodRequest
    oa_id: str
    dice: random.Random
    hits: int = 0

    @property
    def over(self) -> bool:
        """Whether it has struck as often as it was asked to."""
        return self.request.count is not None and self.hits >= self.request.count

    def strikes(self) -> bool:
        """Throw the dice for one occasion that concerns this mood."""
        if self.over or (self.request.probability < 1 and self.dice.random() >= self.request.probability):
            return False
        self.hits += 1
        return True


@dataclass(slots=True)
class Moods:
    """All moods of the moment, asked in the order they were set."""

    seed: int
    active: list[Mood] = field(default_factory=list)
    _set_so_far: int = 0

    def add(self, request: MoodRequest, oa_id: str) -> Mood:
        """Bring a mood about; its dice depend on the seed and on how many moods came before it only."""
        self._set_so_far += 1
        mood = Mood(self._set_so_far, request, oa_id, random.Random(f"{self.seed}:{self._set_so_far}"))  # noqa: S311 - dice of a simulation
        self.active.append(mood)
        return mood

    def end(self, mood_id: int) -> None:
        """End one mood."""
        self.active = [mood for mood in self.active if mood.mood_id != mood_id]

    def clear(self) -> None:
        """End all moods and start counting anew, so that a repeated test meets the same dice."""
        self.active.clear()
        self._set_so_far = 0

    def for_call(self, path: str, oa_id: str) -> list[Mood]:
        """The moods that strike this API call."""
        return [
            mood
            for mood in self.active
            if not mood.request.mood.startswith("webhook_")
            and (not mood.oa_id or mood.oa_id == oa_id)
            and (mood.request.path == "*" or path.startswith(mood.request.path))
            and mood.strikes()
        ]

    def for_webhook(self, event_name: str, oa_id: str) -> list[Mood]:
        """The moods that strike this event."""
        return [
            mood
            for mood in self.active
            if mood.request.mood.startswith("webhook_")
            and (not mood.oa_id or mood.oa_id == oa_id)
            and event_name.startswith(mood.request.event)
            and mood.strikes()
        ]
