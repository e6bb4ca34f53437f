"""The Hugging Face hub: from the name of a model to a folder on disk, and from a folder to a model on the hub."""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

from huggingface_hub import HfApi, constants, get_session, snapshot_download
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from compactbio.errors import UserError, check_named, reason

# The weights that transformers reads first; not those of another variant (model.fp16.safetensors).
SAFETENSORS = ("model.safetensors", "model-*-of-*.safetensors")
# The files of a model or tokenizer; weights that torch saved are fetched only where there are no others.
_PATTERNS = {"tokenizer": ["*.json", "*.txt", "*.model"], "model": ["*.json", "*.txt", "*.model", "*.safetensors"]}
_SAVED_BY_TORCH = "pytorch_model*.bin"
# The base class of the errors of the HTTP client that the installed hub library uses.
_TRANSPORT = cast("type[Exception]", HfHubHTTPError.__bases__[0])
_ANSWER_SECONDS = 3.0


def resolve(name: str, *, kind: str, more: Sequence[str] = ()) -> Path:
    """The local folder or file of a model or tokenizer, fetched from the hub where `name` is not a local path.

    On the hub a name is `owner/name`, with `@revision` where it is not the main one; `kind` is "model" or "tokenizer",
    `more` are patterns of further files to fetch. Raises UserError where there is no such thing, or where the hub is
    out of reach and the cache does not hold it, and where it refuses.
    """
    check_named(name, f"The name of a {kind}")
    path = Path(name).expanduser()
    if path.exists():
        return path
    if name.startswith((".", "/", "~")) or name.count("/") > 1 or name.endswith("/"):
        raise UserError(f"{name}: there is no such {kind} folder; check the path.")
    repository, _, revision = name.partition("@")
    offline = not _reachable()

    def fetch(*patterns: str) -> Path:
        return Path(
            snapshot_download(
                repository, revision=revision or None, allow_patterns=list(patterns), local_files_only=offline
            )
        )

    try:
        folder = fetch(*_PATTERNS[kind], *more)
        if kind == "model" and not any(any(folder.glob(name)) for name in SAFETENSORS):
            folder = fetch(*_PATTERNS[kind], *more, _SAVED_BY_TORCH)
    except (LocalEntryNotFoundError, FileNotFoundError) as error:
        if isinstance(error.__cause__, HfHubHTTPError):  # the hub was reached, and refused
            raise UserError(f"{name}: {_refusal(error.__cause__, kind)}.") from None
        raise UserError(
            f"{name}: no local {kind} folder of this name, and it cannot be fetched because "
            + ("HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else "the model hub is out of reach")
            + "; name a local folder, or run once with a connection to fill the cache."
        ) from None
    except HFValidationError:
        raise UserError(f"{name}: neither a local {kind} folder nor a hub name (owner/name).") from None
    except HfHubHTTPError as error:
        raise UserError(f"{name}: {_refusal(error, kind)}.") from None
    except (_TRANSPORT, ConnectionError, TimeoutError, RuntimeError) as error:  # RuntimeError: of large files
        raise UserError(
            f"{name}: the download from the hub broke off ({type(error).__name__}); run the same command again, what "
            "was fetched is kept."
        ) from None
    return folder


def model_id(name: str) -> str | None:
    """The id on the hub, without a revision, that a model's name means; None for a local folder."""
    return None if Path(name).expanduser().exists() else name.partition("@")[0]


def push(folder: Path, name: str, *, ignore: Sequence[str] = (), private: bool = True) -> str:
    """Upload a folder as a model `owner/name` of the hub, created where it does not exist; returns its address.

    Files of the patterns `ignore` are not uploaded. `private`: whether a model that is created is visible to its owner
    alone. Raises UserError where the hub refuses or is out of reach.
    """
    check_named(name, "The name of a model on the hub")
    if not _reachable():
        raise UserError(f"{name}: the model hub is out of reach, so nothing was uploaded; {folder} is complete.")
    api = HfApi()
    try:
        url = api.create_repo(name, private=private, exist_ok=True)
        api.upload_folder(repo_id=url.repo_id, folder_path=folder, ignore_patterns=list(ignore))
    except HFValidationError:
        raise UserError(f"{name}: not a valid name for a hub model; it must be owner/name.") from None
    except HfHubHTTPError as error:
        raise UserError(f"{name}: {_refusal(error, 'model')}; {folder} is complete.") from None
    except (_TRANSPORT, OSError, RuntimeError) as error:  # RuntimeError: of large files, whatever went wrong
        raise UserError(
            f"{name}: the upload broke off ({type(error).__name__}); {folder} is complete: push it again."
        ) from None
    except ValueError as error:  # the hub checks the card before it takes files
        raise UserError(f"{name}: the hub refuses the card: {reason(error)}; {folder} is complete.") from None
    return str(url)


def _refusal(error: HfHubHTTPError, kind: str) -> str:
    """What the hub's answer means, and what helps."""
    status = error.response.status_code if error.response is not None else 0
    if isinstance(error, RevisionNotFoundError):
        return f"the hub has this {kind}, and not this revision of it; check what stands after @"
    if isinstance(error, RepositoryNotFoundError) or status in (401, 403, 404):
        return (
            f"the hub has no {kind} of this name that you may use in this way (status {status}); check the spelling, "
            "or log in with `hf auth login` as someone who may"
        )
    if status == 429 or status >= 500:
        return f"the hub cannot answer now (status {status}); try again later"
    return f"the hub refused it (status {status}: {reason(error)})"


def _reachable() -> bool:
    """Whether the hub answers in time: the library sets no limit to its own first request."""
    if constants.HF_HUB_OFFLINE:
        return False
    try:
        get_session().head(constants.ENDPOINT, timeout=_ANSWER_SECONDS)
    except (_TRANSPORT, OSError):
        return False
    return True
