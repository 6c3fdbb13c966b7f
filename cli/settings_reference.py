"""The reference of all settings, made from the settings classes, so that it cannot be behind them."""

import importlib
import importlib.util
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import AliasChoices, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings

from cli.settings import ROOT

MODULES: dict[str, tuple[str, ...]] = {
    "all services": ("shared.settings",),
    "Zalo": ("shared.zalo_config",),
    "intake": ("services.intake.settings",),
    "router": ("services.router.settings",),
    "notifier": ("services.notifier.settings",),
    "console": ("services.console.settings",),
    "hub command": ("cli.settings",),
    "local stack": ("stack.settings",),
    "simulator": ("simulator.settings",),
}
"""Who reads settings, and where their classes are. A part that an image does not contain is left out."""


@dataclass(frozen=True)
class Setting:
    """One setting.

    Attributes:
        variable: name in the environment.
        is_secret: may also be given as `<variable>_FILE`.
        default: as one would write it; None where it must be given.
        used_by: who reads it.
    """

    variable: str
    kind: str
    default: str | None
    is_secret: bool
    used_by: tuple[str, ...]
    about: str


OUTSIDE_CLASSES = (
    Setting("OTEL_EXPORTER_OTLP_ENDPOINT", "text", "", False, ("all services",), "OpenTelemetry collector for traces."),
    Setting("OTEL_TRACES_SAMPLER_ARG", "number", "1.0", False, ("all services",), "Share of messages that are traced."),
    Setting("CRASH_AT", "text", "", False, ("all services",), "For tests: end the process at this crash point."),
    Setting("HUB_REPLICATION_FACTOR", "number", "", False, ("hub command",), "Copies of every record, for `hub init`."),
    Setting("HUB_DEBUG", "text", "", False, ("hub command",), "Anything: show where an unexpected error arose."),
)
"""Read where no settings class can be: by libraries, before anything else, or as the default of an option."""

MEANINGS = {
    "KAFKA_PORT": "Port of the embedded Kafka; a free one without it.",
    "MONGO_PORT": "Port of the embedded database; a free one without it.",
    "SIMULATOR_PORT": "Port of the simulator and its phone page.",
    "WEBHOOK_PORT": "Port of intake, where Zalo posts to.",
    "ROUTER_PORT": "Port of the router's health and metrics.",
    "NOTIFIER_PORT": "Port of the notifier's health and metrics.",
    "CONSOLE_PORT": "Port of the officers' page.",
    "READY_TIMEOUT_SECONDS": "How long `make up` waits for each server and service.",
    "ZALO_CONNECT_TIMEOUT_SECONDS": "How long connecting to Zalo may take; nothing was sent by then, so it is retried.",
    "CONSOLE_ATTEMPT_WINDOW_SECONDS": "The time over which attempts to sign in are counted.",
    "SIMULATOR_CONFIG": "Apps and pages it plays Zalo for.",
    "SIMULATOR_HOST": "Address it listens on.",
    "SIMULATOR_STATE_DIR": "Where it keeps tokens, conversations and its log.",
    "SIMULATOR_WEBHOOK_URL": "Where it sends events at first; the control API can change it.",
    "SIMULATOR_PUBLIC_URL": "Its address as the hub sees it, in links to pictures.",
    "SIMULATOR_SEED": "Makes ids and names repeatable.",
    "SIMULATOR_TIME_SCALE": "How much faster than real time its retry ladder runs.",
    "SIMULATOR_WEBHOOK_CONCURRENCY": "Webhooks on their way at once.",
    "SIMULATOR_WEBHOOK_TIMEOUT_SECONDS": "When a webhook without an answer counts as failed; Zalo waits 2 s.",
    "SIMULATOR_RETRY_ON": "Which failures are tried again.",
    "SIMULATOR_AUTO_RECEIPTS": "Report every message as received and seen by itself.",
    "SIMULATOR_RATE_LIMIT_PER_MINUTE": "Calls of one app before it answers that there are too many; 0 is no limit.",
    "SIMULATOR_PAGE_RATE_LIMIT_PER_MINUTE": "Calls one page may make a minute, beside its app's limit; 0 is no limit.",
    "SIMULATOR_UPLOADS_PER_MONTH": "Upload calls one app may make a month; 0 is no limit.",
    "SIMULATOR_BROADCAST_SECONDS": "How long Zalo's review takes before a broadcast arrives, by the simulator's clock.",
    "SIMULATOR_REQUIRE_APPSECRET_PROOF": "Refuse calls without a proof of the app secret, as Zalo's option does.",
    "SIMULATOR_ARTICLE_SECONDS": "How long an article is being processed before it can be verified.",
    "SIMULATOR_LOG_ENTRIES": "Entries of its log kept in memory.",
    "SIMULATOR_LOG_FILE_MAX_BYTES": "Size at which its log file is begun anew.",
}
"""For settings whose class does not say it itself; a test finds the ones that have become needless."""


def all_settings() -> list[Setting]:
    """Every setting, once, in the order of its first reader."""
    found: dict[str, Setting] = {}
    for user, modules in MODULES.items():
        declared = [setting for settings_class in _classes(modules) for setting in _of_class(settings_class, user)]
        for setting in declared + [outside for outside in OUTSIDE_CLASSES if outside.used_by == (user,)]:
            found[setting.variable] = _joined(found.get(setting.variable), setting)
    return [
        setting if setting.about else replace(setting, about=MEANINGS.get(setting.variable, ""))
        for setting in found.values()
    ]


def _joined(known: Setting | None, new: Setting) -> Setting:
    """One row for a variable that several parts read; where their defaults differ, each is named."""
    if known is None:
        return new
    if "all services" in known.used_by or new.used_by[0] in known.used_by:
        return known
    default = known.default
    if new.default not in (known.default, ""):
        default = f"{known.default}, {new.used_by[0]} {new.default}" if known.default else new.default
    return replace(known, default=default, used_by=known.used_by + new.used_by, about=known.about or new.about)


def as_markdown(settings: list[Setting]) -> str:
    """The table for the documentation."""
    lines = [
        "| Variable | Default | Values | Read by | Meaning |",
        "| --- | --- | --- | --- | --- |",
    ]
    for setting in settings:
        name = f"`{setting.variable}`" + (f" or `{setting.variable}_FILE`" if setting.is_secret else "")
        default = "required" if setting.default is None else f"`{setting.default}`" if setting.default else "empty"
        kind = setting.kind.replace("|", "\\|")
        about = setting.about.replace("|", "\\|")
        lines.append(f"| {name} | {default} | {kind} | {', '.join(setting.used_by)} | {about} |")
    return "\n".join(lines) + "\n"


def as_environment_file(settings: list[Setting]) -> str:
    """An example `.env`: everything commented out, so that copying it changes nothing."""
    lines = [
        "# Every setting with its default. Copy to .env and uncomment what you change; docs/settings.md explains more.",
        "# A secret NAME can be given as NAME_FILE instead, the path of a file that holds it.",
    ]
    user = ""
    for setting in settings:
        if setting.used_by[0] != user:
            user = setting.used_by[0]
            lines += ["", f"# --- {user} " + "-" * (70 - len(user))]
        default = "" if setting.default is None or "," in setting.default else setting.default
        lines += [f"# {setting.about}", f"#{setting.variable}={default}"]
    return "\n".join(lines) + "\n"


def _classes(modules: tuple[str, ...]) -> Iterator[type[BaseSettings]]:
    for name in modules:
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not name.startswith(error.name):
                raise
            continue  # this part is not in this installation
        for _, member in inspect.getmembers(module, inspect.isclass):
            if issubclass(member, BaseSettings) and member.__module__ == name:
                yield member


def _of_class(settings_class: type[BaseSettings], user: str) -> Iterator[Setting]:
    prefix = str(settings_class.model_config.get("env_prefix", ""))
    documented = _documented_attributes(settings_class)
    for name, field in settings_class.model_fields.items():
        for variable in _variables(name, field, prefix):
            yield Setting(
                variable=variable,
                kind=_kind(field.annotation),
                default=_default(field),
                is_secret="SecretStr" in str(field.annotation),
                used_by=(user,),
                about=_sentence(field.description or documented.get(name, "")),
            )


def _variables(name: str, field: FieldInfo, prefix: str) -> list[str]:
    alias = field.validation_alias
    if isinstance(alias, str):
        return [alias.upper()]
    if isinstance(alias, AliasChoices):
        return [str(choice).upper() for choice in alias.choices if isinstance(choice, str)][:1]
    return [f"{prefix}{name}".upper()]


def _default(field: FieldInfo) -> str | None:
    if field.default_factory is not None:
        return "chosen at start"
    value = field.default
    if value is PydanticUndefined:
        return None
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if isinstance(value, Path) and value.is_absolute():
        return str(value.relative_to(ROOT)) if value.is_relative_to(ROOT) else str(value)
    match value:
        case None | "":
            return ""
        case bool():
            return str(value).lower()
        case tuple() | list() | frozenset():
            return ",".join(map(str, value))
        case _:
            return str(value)


def _kind(annotation: Any) -> str:
    if annotation is None or annotation is type(None):
        return ""
    if get_origin(annotation) is Literal:
        return " \\| ".join(str(value) for value in get_args(annotation)).replace("\\|", "|")
    if get_origin(annotation) in (tuple, list, dict):
        return "JSON"
    if arguments := [argument for argument in get_args(annotation) if argument is not type(None)]:
        return _kind(arguments[0])
    plain = {"SecretStr": "secret", "str": "text", "int": "number", "float": "number", "bool": "true | false"}
    name = getattr(annotation, "__name__", str(annotation))
    return plain.get(name, "path" if name == "Path" else name)


_ATTRIBUTE = re.compile(r"^(\w+): (.+)$")


def _documented_attributes(settings_class: type) -> dict[str, str]:
    """The `Attributes:` section of the class's docstring and of its bases', nearest first."""
    documented: dict[str, str] = {}
    for owner in reversed(settings_class.__mro__):
        text = inspect.cleandoc(owner.__dict__.get("__doc__") or "")
        _, _, section = text.partition("Attributes:\n")
        name = ""
        for line in inspect.cleandoc(section).splitlines():
            if match := _ATTRIBUTE.match(line):
                name = match[1]
                documented[name] = match[2]
            elif name and line.startswith(" "):
                documented[name] += " " + line.strip()
            elif not line.strip() or not line.startswith(" "):
                name = ""
    return documented


def _sentence(text: str) -> str:
    text = " ".join(text.replace("``", "`").split())
    return text[:1].upper() + text[1:].removesuffix(".") + "." if text else ""
