"""Checks before a promotion whether a version would serve in its home.

`check_in_process` loads it as the API does, in a process of its own, because this package may not import serving.
`check_manifest` is for a Lambda function, which has neither the libraries nor the memory to load a model. It only reads
the manifest; by then evaluation has loaded the version in the image that the API runs.

Imports only the standard library and the home, because it also runs in a Lambda function.
"""

import hashlib
import subprocess

from pipeline.registry.versions import Published, part_of
from processing.errors import BadInput

CONTRACT_KEY = "contract.toml"
PACKED = "scorer.npz"
CHECK_SECONDS = 300.0


class WouldNotServe(BadInput):
    """The API of the home would refuse the version."""


def check_in_process(published: Published) -> None:
    """Load a version as its home's API would at startup. Raises WouldNotServe with the API's reason."""
    from processing.processes import children

    command = children.module_command(
        "serving.decision.check_version", "--home", published.home.url, "--version", published.version
    )
    try:
        process = children.run(command, timeout=CHECK_SECONDS, env=children.child_environment())
    except subprocess.TimeoutExpired:
        raise WouldNotServe(
            f"version {published.version} could not be loaded within {CHECK_SECONDS:.0f} s; nothing was changed"
        ) from None
    if process.returncode:
        lines = process.stderr.strip().splitlines() or [f"the loading process ended with code {process.returncode}"]
        raise WouldNotServe(f"nothing was changed, the API would refuse it: {lines[-1].removeprefix('error: ')}")


def check_manifest(published: Published, *, packed_only: bool) -> None:
    """Compare a version's manifest with its home. Raises WouldNotServe, and NotFound if the home has no contract.

    A version trained under another contract is refused here, because telling whether it would serve takes loading it,
    as the command does.
    """
    command = f"`fraudline models promote {published.version} --home {published.home.url}`"
    trained, text = part_of(published.manifest, "contract"), published.home.read(CONTRACT_KEY)
    if trained.get("digest") != hashlib.sha256(text.replace(b"\r\n", b"\n")).hexdigest():
        raise WouldNotServe(
            f"version {published.version} was trained under another contract than the current one, "
            f"{published.home.url_of(CONTRACT_KEY)}; nothing was changed. "
            f"Run the pipeline again, or try {command}, which loads it to find out"
        )
    if not isinstance(published.manifest.get("features"), list) or not isinstance(
        published.manifest.get("threshold"), float
    ):
        raise WouldNotServe(f"the manifest of version {published.version} lacks its features or its threshold")
    if packed_only and PACKED not in published.files:
        raise WouldNotServe(
            f"version {published.version} has no packed scorer, and this deployment loads packed models only; nothing "
            "was changed. `fraudline deploy --allow-joblib` allows others, or promote a packed model"
        )
