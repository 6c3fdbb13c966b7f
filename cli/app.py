"""All commands of `hub`, in the order of its help."""

from collections.abc import Callable
from typing import Any

import typer

from cli.commands import (
    api_token,
    ask,
    asyncapi,
    broadcast,
    cases,
    dead_letters,
    init,
    label,
    model,
    records,
    replies,
    send,
    settings,
    status,
    token_link,
    tokens,
    topics,
    understand,
    units,
    webhook,
    whatif,
)

app = typer.Typer(
    name="hub",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Bình Yên, a message hub between citizens and their ward police: look into it, try it, repair it.",
    epilog=(
        "Exit codes: 0 done, 1 something is not well, 2 wrong use, 3 not found, 4 a server does not answer, "
        "5 a setting is wrong, 6 refused, 7 no answer in time. Errors end in a stable code in brackets.\n\n"
        "Addresses come from the environment, from .env, or from what `make up` wrote down ($HUB_HOME/state.json)."
    ),
)


@app.callback()
def _root() -> None:
    """Keeps `hub NAME` a command of its own however many there are."""


def _group(name: str, about: str) -> typer.Typer:
    group = typer.Typer(no_args_is_help=True, help=about)
    app.add_typer(group, name=name)
    return group


def _add(group: typer.Typer, name: str, command: Callable[..., Any], *examples: str) -> None:
    group.command(name, epilog="\n\n".join(f"Example: [bold]{example}[/bold]" for example in examples))(command)


_add(app, "status", status.status, "hub status", "hub status --json")
_add(
    app,
    "ask",
    ask.ask,
    'hub ask "làm căn cước cần giấy tờ gì vậy" --page tan-chanh-hiep',
    'hub ask "cháy nhà ở đường Tô Ký" --page tan-chanh-hiep --user 0901 --json',
)
_case = _group("case", "One case.")
_add(_case, "show", cases.show, "hub case show 0042", "hub case show Q12-261124-0042 --trace")
_cases = _group("cases", "Find cases and answer them.")
_add(
    _cases,
    "list",
    cases.list_,
    "hub cases list --unit tan-chanh-hiep",
    "hub cases list Q12-2611",
    "hub cases list --citizen 4000000000000000008:2000000000000000001 --all",
)
_add(
    _cases,
    "reply",
    cases.reply,
    'hub cases reply Q12-261124-0042 "Mời bác đến trụ sở sáng mai." --officer "Nguyễn Văn An"',
    'hub cases reply Q12-261124-0042 "Đã xong." --close --dry-run',
)
_replies = _group("replies", "The send ledger.")
_add(
    _replies,
    "list",
    replies.list_,
    "hub replies list",
    "hub replies list --state failed --citizen 4000000000000000008:2000000000000000001",
)
_add(
    _replies,
    "settle",
    replies.settle,
    'hub replies settle 3f9a1c --sent --reason "the message stands in the conversation"',
    'hub replies settle 3f9a1c --not-sent --reason "not there, looked at 14:05"',
)
_add(
    _replies,
    "requeue",
    replies.requeue,
    "hub replies requeue --all --code token.refused",
    'hub replies requeue --all --code token.refused --yes --reason "page linked again"',
    'hub replies requeue 3f9a1c --yes --reason "was not sent"',
)
_broadcast = _group("broadcast", "Work broadcasts: one content to an audience, approved by a second person.")
_add(
    _broadcast,
    "draft",
    broadcast.draft,
    "hub broadcast draft fire.yaml --as an",
    'hub broadcast draft --unit tan-chanh-hiep --to-unit tan-chanh-hiep --text "Mời bà con…" --as an',
    "hub broadcast draft fire.yaml --replaces 4d1f0be0a1c2 --as an",
)
_add(_broadcast, "preview", broadcast.preview, "hub broadcast preview 4d1f0be0a1c2 --as an")
_add(
    _broadcast,
    "test",
    broadcast.send_test,
    "hub broadcast test 4d1f0be0a1c2 --to 4000000000000000008:2000000000000000001",
)
_add(_broadcast, "approve", broadcast.approve, "hub broadcast approve 4d1f0be0a1c2 --as binh")
_add(_broadcast, "schedule", broadcast.schedule, 'hub broadcast schedule 4d1f0be0a1c2 --at "2026-11-28 07:30" --as an')
_add(_broadcast, "start", broadcast.start, "hub broadcast start 4d1f0be0a1c2 --as an")
_add(_broadcast, "watch", broadcast.watch, "hub broadcast watch 4d1f0be0a1c2 --as an")
_add(_broadcast, "pause", broadcast.pause, 'hub broadcast pause 4d1f0be0a1c2 --note "sai số điện thoại" --as binh')
_add(_broadcast, "resume", broadcast.resume, "hub broadcast resume 4d1f0be0a1c2 --as an")
_add(_broadcast, "cancel", broadcast.cancel, "hub broadcast cancel 4d1f0be0a1c2 --as an")
_add(
    _broadcast,
    "copies",
    broadcast.copies_of,
    "hub broadcast copies 4000000000000000008:2000000000000000001 --as an",
)
_add(_broadcast, "uncertain", broadcast.uncertain, "hub broadcast uncertain 4d1f0be0a1c2 --as binh")
_add(
    _broadcast,
    "settle-article",
    broadcast.settle_article,
    "hub broadcast settle-article 4d1f0be0a1c2 --page hiep-thanh --sent --as binh",
)
_add(
    _broadcast,
    "settle",
    broadcast.settle,
    "hub broadcast settle 4d1f0be0a1c2 --person 5b1e… --sent --as binh",
    "hub broadcast settle 4d1f0be0a1c2 --all --not-sent --as binh",
)
_add(_broadcast, "abandon", broadcast.abandon, "hub broadcast abandon 4d1f0be0a1c2 --all --as binh")
_add(_broadcast, "show", broadcast.show, "hub broadcast show 4d1f0be0a1c2 --as an")
_add(_broadcast, "list", broadcast.list_, "hub broadcast list --as an", "hub broadcast list --state running --as an")
_add(
    app,
    "send",
    send.send,
    'hub send --dry-run --unit tan-chanh-hiep --text "Mời bà con…" --within-hours 48 --as an',
    "hub send --dry-run fire.yaml --citizen 4000000000000000008:2000000000000000001 --as an",
)
_add(app, "api-token", api_token.api_token, "hub api-token an-nguyen --role publisher --unit tan-chanh-hiep")
_tokens = typer.Typer(invoke_without_command=True, callback=tokens.tokens, epilog="Example: [bold]hub tokens[/bold]")
app.add_typer(_tokens, name="tokens")
_add(
    _tokens,
    "link",
    token_link.link,
    "hub tokens link tan-chanh-hiep --redirect-uri https://hub.example.vn/zalo/linked",
    "hub tokens link tan-chanh-hiep --listen 8765",
)
_add(app, "init", init.init, "hub init", "hub init --replication-factor 3 --strict")
_add(app, "topics", topics.topics, "hub topics", "hub topics --json")
_add(app, "settings", settings.settings, "hub settings", "hub settings --markdown")
_add(
    app,
    "asyncapi",
    asyncapi.asyncapi,
    "hub asyncapi router",
    "hub asyncapi check",
    "hub asyncapi check --write",
)

_webhook = _group("webhook", "Send events to intake as Zalo does.")
_add(
    _webhook,
    "send",
    webhook.send,
    'hub webhook send --page tan-chanh-hiep --text "xin chào"',
    "hub webhook send --event follow --user 2000000000000000042",
    "hub webhook send --file payload.json --repeat 3",
    "hub webhook send --bad-signature",
)

_records = _group("records", "Accepted webhooks that led to nothing else.")
_add(
    _records,
    "list",
    records.list_,
    "hub records list",
    "hub records list --reason event.unknown --body",
    "hub records list --citizen 4000000000000000008:2000000000000000001",
)

_units = _group("units", "Mergers, splits, renames and moves of pages, by date.")
_add(_units, "plan", units.plan, "hub units plan data/directory/plans/merger-2025.yaml")
_add(_units, "apply", units.apply, "hub units apply data/directory/plans/merger-2025.yaml")
_add(_units, "undo", units.undo, "hub units undo merger-2025")

_add(app, "whatif", whatif.whatif, "hub whatif --rules ../candidate/data", "hub whatif --model 4423f306cd98 --json")

_letters = _group("dead-letters", "Events that could not be handled: look at them, publish them again.")
_add(_letters, "list", dead_letters.list_, "hub dead-letters list", "hub dead-letters list --reason event.unreadable")
_add(_letters, "show", dead_letters.show, "hub dead-letters show 3f9a1c")
_add(
    _letters,
    "replay",
    dead_letters.replay,
    "hub dead-letters replay 3f9a1c",
    "hub dead-letters replay --all --reason handler.failed --dry-run",
)

_add(
    app,
    "understand",
    understand.understand,
    "hub understand messages.jsonl > readings.jsonl",
    "hub understand - --model 4423f306cd98",
)
_model = _group("model", "The learned part of understanding: train it, judge it, put it into use.")
_add(_model, "train", model.train_, "hub model train", "hub model train --promote")
_add(_model, "evaluate", model.evaluate_, "hub model evaluate", "hub model evaluate --held-out other/folder --json")
_add(_model, "compare", model.compare, "hub model compare 4423f306cd98 659a7c7c1422")
_add(_model, "promote", model.promote, "hub model promote 4423f306cd98")
_add(_model, "rollback", model.rollback, "hub model rollback")

_label = _group("label", "Officers' corrections, reviewed into messages to learn from.")
_add(_label, "list", label.list_, "hub label list", "hub label list --json")
_add(_label, "accept", label.accept, "hub label accept 3f9a1c --dry-run")
_add(_label, "reject", label.reject, "hub label reject 3f9a1c")
