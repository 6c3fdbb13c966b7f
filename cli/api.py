"""The notifier's HTTP API as the commands use it: one person's token, and refusals turned into advice."""

import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from cli.errors import CommandError, ExitCode
from cli.hub import http_unreachable, opened_http
from cli.settings import CliSettings

TIMEOUT_SECONDS = 60.0
"""A preview reads every contact: some seconds for a hundred thousand."""

_ADVICE = {
    "access.no_token": "Say who you are: `--as NAME`, HUB_PERSON, or HUB_API_TOKEN with your token.",
    "access.unknown_token": "The notifier's file names nobody with this token; `hub api-token` makes one.",
    "access.not_allowed": "Somebody with the role for it has to do this; `--as NAME` speaks as another person.",
    "access.other_unit": "Name your own units in `unit` and `audience.units`.",
    "broadcast.not_found": "`hub broadcast list` shows those you may see.",
    "broadcast.needs_a_second_person": "Whoever wrote or changed it last cannot approve it: ask a colleague.",
    "broadcast.not_previewed": "Run `hub broadcast preview ID` first: an approval rests on its counts.",
    "broadcast.preview_too_old": "Run `hub broadcast preview ID` again: its counts are more than a day old.",
    "broadcast.changed": "Read it again with `hub broadcast show ID`, then repeat what you wanted.",
    "broadcast.is_draft": "It needs a preview and a second person's approval first.",
    "broadcast.starts_in_the_past": "Give a moment that is still to come, or `hub broadcast start ID`.",
    "broadcast.unit_unknown": "data/directory/ has the units; slugs look like tan-chanh-hiep.",
    "article.target_unknown": "docs/broadcasts.md lists the targets that Zalo knows.",
    "test.not_staff": "Choose citizens with that tag, as OA:USER.",
}
_USUAL_ADVICE = {
    401: "Say who you are: `--as NAME`, HUB_PERSON, or HUB_API_TOKEN with your token.",
    404: "`hub broadcast list` shows those you may see.",
    409: "`hub broadcast show ID` tells its state and who did what.",
    413: "Shorten it: a draft may have 512 KB.",
    422: "Correct what is named; docs/broadcasts.md shows a whole draft.",
    503: "Try again in a moment; `hub status` shows what is down.",
}
_EXIT = {
    401: ExitCode.REFUSED,
    403: ExitCode.REFUSED,
    404: ExitCode.NOT_FOUND,
    409: ExitCode.REFUSED,
    413: ExitCode.USAGE,
    422: ExitCode.USAGE,
    503: ExitCode.UNREACHABLE,
}


def token_for(settings: CliSettings, person: str | None) -> str:
    """The token to speak with: the named person's of this hub, else HUB_API_TOKEN, else HUB_PERSON's.

    Raises:
        CommandError: there is none.
    """
    if person is None and settings.hub_api_token is not None:
        return settings.hub_api_token.get_secret_value().strip()
    name = person or settings.hub_person
    folder = settings.hub_home / "people"
    known = sorted(file.stem for file in folder.glob("*.token")) if folder.is_dir() else []
    if name is None:
        raise CommandError(
            "person_missing",
            "Broadcasts are worked by persons, and you did not say who you are.",
            f"Add `--as {known[0]}` (this hub knows {', '.join(known)}), or set HUB_PERSON."
            if known
            else "Set HUB_API_TOKEN to your token; `hub api-token` makes one.",
            exit_code=ExitCode.USAGE,
        )
    if name not in known:
        raise CommandError(
            "person_unknown",
            f"This hub has no token of {name!r}.",
            f"It has those of {', '.join(known)}." if known else "Set HUB_API_TOKEN instead of a name.",
            exit_code=ExitCode.USAGE,
        )
    return (folder / f"{name}.token").read_text("utf-8").strip()


class Api:
    """Calls of one person.

    Args:
        http: the client.
        url: base address of the notifier.
        token: the person's.
    """

    def __init__(self, http: aiohttp.ClientSession, url: str, token: str) -> None:
        self._http = http
        self._url = url.rstrip("/")
        self._headers = {"authorization": f"Bearer {token}"}

    async def get(self, path: str, **query: Any) -> Any:
        """Ask.

        Raises:
            CommandError: refused, or nobody answers.
        """
        wanted = [(name, str(one)) for name, value in query.items() for one in _each(value)]
        return await self._call("GET", path, params=wanted)

    async def post(self, path: str, body: Any = None, *, key: str | None = None) -> Any:
        """Do something; with a key, once however often it is called.

        Raises:
            CommandError: refused, or nobody answers.
        """
        headers = {} if key is None else {"idempotency-key": key}
        return await self._call("POST", path, json={} if body is None else body, headers=headers)

    async def put(self, path: str, body: Any) -> Any:
        """Replace something.

        Raises:
            CommandError: refused, or nobody answers.
        """
        return await self._call("PUT", path, json=body)

    async def _call(self, method: str, path: str, *, headers: dict[str, str] | None = None, **options: Any) -> Any:
        try:
            async with self._http.request(
                method, self._url + path, headers=self._headers | (headers or {}), **options
            ) as answer:
                content = await answer.read()
                status = answer.status
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise http_unreachable("notifier", self._url, error) from error
        try:
            document = json.loads(content)
        except ValueError:
            document = None
        if status < 400 and document is not None:
            return document
        raise refusal(status, document)


def refusal(status: int, problem: Any) -> CommandError:
    """A refusal of the API as a person reads it."""
    if not isinstance(problem, dict) or "code" not in problem:
        return CommandError(
            "notifier_strange",
            f"The notifier answered HTTP {status} without saying why.",
            "Is NOTIFIER_URL the address of a notifier of this version? `hub status` shows the addresses.",
            exit_code=ExitCode.UNREACHABLE,
        )
    code = str(problem["code"])
    message = str(problem.get("message") or "")
    rest = [f"{one['where']}: {one['what']}" for one in problem.get("problems", [])[1:6]]
    said = "; ".join([message if message != code else _said(code), *rest])
    return CommandError(
        code,
        said if said.endswith(".") else f"{said}.",
        _ADVICE.get(code) or _USUAL_ADVICE.get(status, "The notifier's log tells more: `make logs S=notifier`."),
        exit_code=_EXIT.get(status, ExitCode.NOT_WELL),
    )


def _said(code: str) -> str:
    kind, _, what = code.partition(".")
    words = what.replace("_", " ")
    if kind == "broadcast" and words.startswith("is "):
        return f"The broadcast {_STATE_WORDS.get(words, words)}, so this cannot be done"
    return f"Refused: {kind} {words}"


_STATE_WORDS = {"is draft": "is still a draft", "is done": "is over"}


def _each(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple | set) else [value]


@asynccontextmanager
async def opened_api(settings: CliSettings, person: str | None) -> AsyncIterator[Api]:
    """The API, as a person.

    Raises:
        CommandError: it is not known who asks.
    """
    token = token_for(settings, person)
    async with opened_http(TIMEOUT_SECONDS) as http:
        yield Api(http, settings.notifier_url, token)


def new_key() -> str:
    """A key for one request, so that repeating it repeats nothing."""
    return secrets.token_hex(16)


def read_document(file: Path, text: str) -> dict[str, Any]:
    """A YAML or JSON document that a person wrote.

    Args:
        file: where it is from, for the message.
        text: its content.

    Raises:
        CommandError: it is none.
    """
    try:
        # Moments stay texts: the API wants them with their time zone, as they were written.
        content = yaml.load(text, Loader=_PlainLoader)  # noqa: S506 - derived from SafeLoader
    except yaml.YAMLError as error:
        raise CommandError(
            "file_unreadable", f"{file} is neither YAML nor JSON: {error}", "Correct it and try again.",
            exit_code=ExitCode.USAGE,
        ) from error  # fmt: skip
    if not isinstance(content, dict):
        raise CommandError(
            "file_unreadable", f"{file} has no fields.", "docs/broadcasts.md shows a whole draft.",
            exit_code=ExitCode.USAGE,
        )  # fmt: skip
    return content


class _PlainLoader(yaml.SafeLoader):
    """YAML without its own idea of dates."""


_PlainLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
