"""`python -m deploy.make_secrets`: the secret files of the containers, made once and kept.

Nothing has a default: every password is random, and each service gets a Zalo configuration with only what it needs.
The files are readable (0444) because the containers run as other users than the one who made them; the folder is not
(0700), so on the host they are private, and a container sees only the ones mounted into it.
"""
# ruff: noqa: T201 - a program of the command line speaks through print

import argparse
import base64
import os
import secrets
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import yaml
from cryptography.fernet import Fernet

from deploy.mongo_setup import services
from shared.api_people import DEMO_PEOPLE, new_person
from shared.directory import load_directory
from shared.errors import ConfigurationError
from shared.zalo_config import load_zalo_config

DATA = Path(__file__).resolve().parent.parent / "data"
DEMO_APP_ID = "1000000000000000001"
SIMULATOR_URL = "http://simulator:9000"
MONGO_USERS = (*services(), "init")


def demo_zalo_config() -> dict[str, Any]:
    """Pages and keys for the simulator: one page for each that is in the directory today."""
    today = datetime.now(ZoneInfo("Asia/Ho_Chi_Minh")).date()
    view = load_directory(DATA).as_of(today)
    return {
        "oa_api_url": SIMULATOR_URL,
        "oauth_url": SIMULATOR_URL,
        "upload_url": SIMULATOR_URL,
        "business_url": SIMULATOR_URL,
        "apps": [
            {
                "app_id": DEMO_APP_ID,
                "app_secret": secrets.token_urlsafe(24),
                "oa_secret_keys": [secrets.token_urlsafe(24)],
            }
        ],
        "pages": [
            {
                "page": page,
                "oa_id": str(4_000_000_000_000_000_000 + number),
                "app_id": DEMO_APP_ID,
                "name": f"Công an {view.units[unit].name}",
                "refresh_token": secrets.token_urlsafe(48),
            }
            for number, (page, unit) in enumerate(view.unit_by_page.items(), start=1)
        ],
    }


def without(config: dict[str, Any], *, app: dict[str, Any], page: tuple[str, ...]) -> dict[str, Any]:
    """A copy with values of the apps replaced and values of the pages left out."""
    return {
        **config,
        "apps": [{**one, **app} for one in config["apps"]],
        "pages": [{key: value for key, value in one.items() if key not in page} for one in config["pages"]],
    }


def zalo_config_of(reader: str, config: dict[str, Any]) -> dict[str, Any]:
    """What one reader needs of the Zalo configuration.

    intake checks signatures and never calls Zalo; notifier calls Zalo and never checks a signature; router needs only
    to know the pages. A key that a service must not have is replaced by a random one that opens nothing, because the
    shape of the file asks for one.
    """
    nothing = {"app_secret": secrets.token_urlsafe(24), "oa_secret_keys": [secrets.token_urlsafe(24)]}
    match reader:
        case "intake":
            return without(config, app={"app_secret": nothing["app_secret"]}, page=("refresh_token",))
        case "notifier":
            return without(config, app={"oa_secret_keys": nothing["oa_secret_keys"]}, page=())
        case "simulator":
            return config
        case _:
            return without(config, app=nothing, page=("refresh_token",))


class Folder:
    """The folder of secrets; what is there is never overwritten, except what is derived from something else."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.made: list[str] = []
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.chmod(0o700)

    def once(self, name: str, content: str) -> None:
        """Write a file unless it exists."""
        if not (self.path / name).exists():
            self.always(name, content)

    def always(self, name: str, content: str) -> None:
        """Write a file whole or not at all."""
        target, fresh = self.path / name, self.path / f".{name}.new"
        if target.exists() and target.read_text("utf-8") == content:
            return
        fresh.unlink(missing_ok=True)
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o444), "w", encoding="utf-8") as file:
            file.write(content)
        fresh.chmod(0o444)
        if target.exists():
            # A file mounted into a container is known by its inode: writing a new one would not be seen there.
            target.chmod(0o644)
            target.write_text(content, "utf-8")
            target.chmod(0o444)
            fresh.unlink()
        else:
            fresh.rename(target)
        self.made.append(name)


def make_people(folder: Folder, people: Mapping[str, tuple[str, Sequence[str]]]) -> None:
    """Make the file of those who may work broadcasts; their tokens lie beside it, and no container reads those.

    Without people it lets nobody in: `hub api-token` makes the rows.
    """
    if (folder.path / "api_tokens.yaml").exists():
        return
    rows = []
    for person, (name, roles) in people.items():
        token, row = new_person(person, roles, name=name)
        folder.always(f"api_token_{person}", token)
        rows.append(row)
    folder.once("api_tokens.yaml", yaml.safe_dump({"people": rows}, allow_unicode=True, sort_keys=False))


def make(folder: Folder, *, zalo: Path | None) -> None:
    """Make what is missing.

    Args:
        folder: where.
        zalo: the file of real apps and pages; None makes one for the simulator, unless there is one already.

    Raises:
        ConfigurationError: the Zalo configuration or the directory cannot be used.
    """
    for user in MONGO_USERS:
        password = secrets.token_urlsafe(24)
        folder.once(f"mongo_uri_{user}", f"mongodb://hub-{user}:{password}@mongo:27017/?authSource=admin")
    folder.once("mongo_root_password", secrets.token_urlsafe(24))
    folder.once("mongo_keyfile", base64.b64encode(secrets.token_bytes(96)).decode())
    folder.once("token_encryption_key", Fernet.generate_key().decode())
    folder.once("console_demo_password", secrets.token_urlsafe(12))
    folder.once("grafana_admin_password", secrets.token_urlsafe(12))
    if zalo is not None:
        folder.always("zalo.yaml", zalo.read_text("utf-8"))
    elif not (folder.path / "zalo.yaml").exists():
        folder.once("zalo.yaml", yaml.safe_dump(demo_zalo_config(), allow_unicode=True, sort_keys=False))
    load_zalo_config(folder.path / "zalo.yaml")  # says what is wrong with it before a service has to
    config = yaml.safe_load((folder.path / "zalo.yaml").read_text("utf-8"))
    source = (folder.path / "zalo.yaml").stat().st_mtime
    for reader in (*services(), "simulator"):
        derived = folder.path / f"zalo_{reader}.yaml"
        # Made again only from a newer source: the random fillers would make every run look like a change.
        if not derived.exists() or derived.stat().st_mtime < source:
            folder.always(derived.name, yaml.safe_dump(zalo_config_of(reader, config), allow_unicode=True))
    is_demo = config.get("oa_api_url") == SIMULATOR_URL
    make_people(folder, DEMO_PEOPLE if is_demo else {})
    folder.always("hub.env", f"HUB_ENVIRONMENT={'demo' if is_demo else 'production'}\n")


def main() -> int:
    """Parse the command line and make the files."""
    parser = argparse.ArgumentParser(prog="deploy/make-secrets", description="Make the secret files of the containers.")
    parser.add_argument("--folder", type=Path, default=Path("deploy/secrets"), help="where (default: deploy/secrets)")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--demo", action="store_true", help="for the simulator: invented pages and keys")
    source.add_argument("--update", action="store_true", help="only what a newer version needs besides what is there")
    source.add_argument("--zalo", type=Path, metavar="FILE", help="your apps and pages, as in config/zalo.example.yaml")
    arguments = parser.parse_args()
    folder = Folder(arguments.folder)
    zalo_file = folder.path / "zalo.yaml"
    if arguments.update and not zalo_file.exists():
        print(f"{zalo_file} is not there, so there is nothing to update; use --demo or --zalo.", file=sys.stderr)
        return 1
    if arguments.demo and zalo_file.exists() and SIMULATOR_URL not in zalo_file.read_text("utf-8"):
        print(f"{zalo_file} names real pages; --demo leaves it alone. Move it away first.", file=sys.stderr)
        return 1
    try:
        make(folder, zalo=arguments.zalo)
    except (ConfigurationError, OSError) as error:
        print(f"No secrets were made for Zalo: {error}", file=sys.stderr)
        return 1
    print(f"{folder.path}: {len(folder.made)} files written ({', '.join(folder.made) or 'all were there'})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
