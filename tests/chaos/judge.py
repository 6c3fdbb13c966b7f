"""The verdict on a run, from the simulator's log alone: what the hub says of itself does not count."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

Item = dict[str, Any]


@dataclass(frozen=True)
class Verdict:
    """What happened to the messages of a run.

    Attributes:
        accepted: messages whose webhook was answered 200, by citizen.
        answers: texts that Zalo took for each citizen, in order.
        refused: messages of which no webhook was answered 200.
    """

    accepted: dict[str, list[str]]
    answers: dict[str, list[str]]
    refused: set[str] = field(default_factory=set)

    @property
    def accepted_count(self) -> int:
        return sum(map(len, self.accepted.values()))

    @property
    def answer_count(self) -> int:
        return sum(map(len, self.answers.values()))

    def doubled(self) -> dict[str, list[str]]:
        """Answers that a citizen got twice; the messages of a run ask for answers that all differ."""
        doubled = {}
        for citizen, texts in self.answers.items():
            if twice := [text for text, times in Counter(texts).items() if times > 1]:
                doubled[citizen] = twice
        return doubled

    def missing(self) -> dict[str, int]:
        """Citizens who got fewer answers than they have accepted messages, and how many fewer."""
        return {
            citizen: len(messages) - len(self.answers.get(citizen, []))
            for citizen, messages in self.accepted.items()
            if len(messages) > len(self.answers.get(citizen, []))
        }

    def uninvited(self) -> dict[str, int]:
        """Citizens who got more answers than they have accepted messages."""
        return {
            citizen: len(texts) - len(self.accepted.get(citizen, []))
            for citizen, texts in self.answers.items()
            if len(texts) > len(self.accepted.get(citizen, []))
        }


def judge(log: Iterable[Item]) -> Verdict:
    """Read the simulator's log.

    Args:
        log: items of `GET /control/log`, webhooks and API calls mixed, in order.
    """
    accepted: dict[str, dict[str, None]] = defaultdict(dict)
    seen: dict[str, None] = {}
    answers: dict[str, list[str]] = defaultdict(list)
    for item in log:
        if item["kind"] == "webhook" and str(item.get("event_name", "")).startswith("user_send_"):
            seen[item["msg_id"]] = None
            if item["status"] == 200:
                accepted[item["user_id"]][item["msg_id"]] = None
        elif item["kind"] == "api" and item["path"] == "/v3.0/oa/message/cs" and item["applied"]:
            answers[item["user_id"]].append(item["text"])
    kept = {message for messages in accepted.values() for message in messages}
    return Verdict({user: list(messages) for user, messages in accepted.items()}, dict(answers), set(seen) - kept)
