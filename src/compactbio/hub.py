"""Hub names and local folders: one way from the name that a user gives to a folder on disk, and up again."""

import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from compactbio.errors import UserError

# What a model or tokenizer may consist of; weights that torch saved are fetched where there are no others.
_PATTERNS = ["*.json", "*.txt", "*.safetensors", "*.model"]
_SAVED_BY_TORCH = "pytorch_model*.bin"
# The error of the HTTP client that the installed hub library uses, whichever that is.
_TRANSPORT = cast("type[Exception]", HfHubHTTPError.__bases__[0])
_PROBE_SECONDS = 3.0


def resolve(name: str, *, kind: str, more: Sequence[str] = ()) -> Path:
    """The local folder or file of a model or tokenizer, fetched from the hub where `name` is no local path.

    `name` is a path or `owner/name[@revision]`; `kind` names the thing in errors, `more` are patterns
    of further files to fetch. Raises UserError where there is no
    such thing, or where the hub cannot be reached and the name is not in the cache; it never retries for minutes.
    """
    path = Path(name).expanduser()
    if path.exists():
        return path
    if name.startswith((".", "/", "~")) or name.count("/") > 1 or name.endswith("/"):
        raise UserError(f"{name}: there is no such {kind} folder; check the path.")
    repository, _, revision = name.partition("@")
    offline = constants.HF_HUB_OFFLINE or not _reachable()

    def fetch(patterns: Sequence[str]) -> Path:
        return Path(
            snapshot_download(
                repository, revision=revision or None, allow_patterns=list(patterns), local_files_only=offline
            )
        )

    try:
        folder = fetch([*_PATTERNS, *more])
        if kind == "model" and not any(folder.glob("model*.safetensors")):
            folder = fetch([*_PATTERNS, *more, _SAVED_BY_TORCH])
    except (LocalEntryNotFoundError, FileNotFoundError):
        raise UserError(
            f"{name}: no local {kind} folder of this name, and it cannot be fetched because "
            + ("HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else "the model hub is out of reach")
            + "; name a local folder, or run once with a connection to fill the cache."
        ) from None
    except HFValidationError:
        raise UserError(f"{name}: neither a local {kind} folder nor a hub name (owner/name).") from None
    except HfHubHTTPError as error:
        raise UserError(
            f"{name}: the hub has no {kind} of this name that you may read (status {_status(error)}); "
            "check the spelling, or log in with `hf auth login` where it is gated."
        ) from None
    except (_TRANSPORT, ConnectionError, TimeoutError) as error:
        raise UserError(
            f"{name}: the download from the hub broke off ({type(error).__name__}); run the same command again, what "
            "was fetched is kept."
        ) from None
    return folder


def push(folder: Path, name: str, *, ignore: list[str], private: bool | None = None) -> str:
    """Upload a folder as the model `owner/name` of the hub, made where it does not exist; gives its address.

    `ignore` are patterns of files that stay; `private` is for a model that is made, None the owner's default. Raises
    UserError where the hub refuses or is out of reach.
    """
    if constants.HF_HUB_OFFLINE or not _reachable():
        raise UserError(f"{name}: the model hub is out of reach, so nothing was pushed; {folder} is complete.")
    api = HfApi()
    try:
        url = api.create_repo(name, private=private, exist_ok=True)
        api.upload_folder(repo_id=url.repo_id, folder_path=folder, ignore_patterns=ignore)
    except HFValidationError:
        raise UserError(f"{name}: no valid name for a hub model; it must be owner/name.") from None
    except HfHubHTTPError as error:
        raise UserError(
            f"{name}: the hub refused the upload (status {_status(error)}); log in with `hf auth login`, "
            f"{folder} is complete."
        ) from None
    return str(url)


def _status(error: HfHubHTTPError) -> int | str:
    return error.response.status_code if error.response is not None else "?"


def _reachable() -> bool:
    # A missing hub would cost the library's retries, some 23 s a file; one short connection tells.
    if any(os.environ.get(key) for key in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return True
    address = urlsplit(constants.ENDPOINT)
    port = address.port or (443 if address.scheme == "https" else 80)
    try:
        socket.create_connection((address.hostname or "", port), timeout=_PROBE_SECONDS).close()
    except OSError:
        return False
    return True
