"""Upload a published model to the Hugging Face Hub."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..extras import needed_for


def _hub() -> Any:
    with needed_for("uploads"):
        import huggingface_hub
    return huggingface_hub


def hub_url(repository: str, name: str, endpoint: str | None = None) -> str:
    """Return the URL that a file will have after its upload.

    Args:
        repository: ``USER/NAME``.
        name: path in the repository.
        endpoint: URL of the hub; ``None`` is huggingface_hub's default (``HF_ENDPOINT``).

    Raises:
        ValueError: ``repository`` is not ``USER/NAME``.
        ImportError: huggingface_hub is not installed.
    """
    if repository.count("/") != 1:
        raise ValueError(f"repository={repository!r} must be USER/NAME")
    return _hub().hf_hub_url(repository, name, endpoint=endpoint)


def push_to_hub(files: Mapping[str, Path], repository: str, message: str, endpoint: str | None = None) -> str:
    """Upload ``files`` (path in the repository -> local file) in one commit, and return the commit's URL.

    The repository is created if it does not exist. huggingface_hub finds the token (``HF_TOKEN``, ``hf auth login``).
    See `hub_url` for the other arguments.

    Raises:
        ValueError: the hub cannot be reached or refuses; shows its answer.
        ImportError: huggingface_hub is not installed.
    """
    hub = _hub()
    api = hub.HfApi(endpoint=endpoint)
    operations = [hub.CommitOperationAdd(name, str(path)) for name, path in files.items()]
    try:
        api.create_repo(repository, exist_ok=True)
        return str(api.create_commit(repository, operations, commit_message=message).commit_url)
    except (hub.errors.HTTPError, hub.errors.HFValidationError, OSError) as error:
        raise ValueError(f"the upload to {repository!r} failed: {error}") from error
