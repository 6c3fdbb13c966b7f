"""What events say of a citizen, in any order and any number of times."""

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from services.notifier.domain.contacts import ContactFacts, Tag, facts_of_change, facts_of_message, merged
from shared.events import CitizenChanged
from tests.factories import NOW, a_change, a_message

HOUR = timedelta(hours=1)


def changes() -> st.SearchStrategy[CitizenChanged]:
    return st.builds(
        lambda change, hours, tag, app_user, phone: a_change(
            change=change,
            changed_at=NOW + hours * HOUR,
            details={"tag": tag, "phone": phone},
            user_id_by_app=app_user,
            is_interaction=change == "followed",
        ),
        st.sampled_from(["followed", "unfollowed", "withdrawn", "tag_added", "tag_removed", "call_ended"]),
        st.integers(0, 5),
        st.sampled_from(["vay nợ", "a.b$c"]),
        st.sampled_from([None, "3000000000000000001"]),
        st.sampled_from(["84900000001", "84900000002"]),
    )


def _essence(facts: ContactFacts) -> object:
    tags = {(name, tag.at) for name, tag in facts.tags.items()}
    return (facts.interaction_at, facts.followed_at, facts.unfollowed_at, facts.withdrawn_at, frozenset(tags))


@given(st.lists(changes(), min_size=1, max_size=8), st.randoms())
def test_the_order_of_events_does_not_matter(events: list[CitizenChanged], random: object) -> None:
    shuffled = [*events, *events]
    random.shuffle(shuffled)  # type: ignore[attr-defined]

    (in_order,) = merged(facts_of_change(event) for event in events)
    (repeated,) = merged(facts_of_change(event) for event in shuffled)

    assert _essence(in_order) == _essence(repeated)


def test_a_message_is_an_interaction() -> None:
    assert facts_of_message(a_message(sent_at=NOW)).interaction_at == NOW


def test_only_what_zalo_counts_as_an_interaction_opens_the_window() -> None:
    assert facts_of_change(a_change(change="tag_added", details={"tag": "x"})).interaction_at is None
    assert facts_of_change(a_change(change="followed", is_interaction=True)).interaction_at == NOW


def test_the_newest_of_two_changes_of_a_tag_wins() -> None:
    removed = facts_of_change(a_change(change="tag_removed", details={"tag": "x"}, changed_at=NOW + HOUR))
    added = facts_of_change(a_change(change="tag_added", details={"tag": "x"}, changed_at=NOW))

    (facts,) = merged([removed, added])

    assert facts.tags == {"x": Tag(is_set=False, at=NOW + HOUR)}


def test_citizens_are_kept_apart() -> None:
    events = [a_change(), a_change(user_id="2000000000000000002")]

    assert len(merged(facts_of_change(event) for event in events)) == 2
