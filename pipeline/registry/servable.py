"""Whether a version would serve in its home, asked before it is promoted.

`check_in_process` has the API itself load it, in a process of its own, since nothing here may import serving.
`check_manifest` is for a Lambda function, which has neither the libraries nor the memory to load a model: it looks at
what the manifest says. Evaluation has loaded the version by then, in the image that the API runs.

Imports no more than the standard library and the home: it also runs in a Lambda function.
"""

import hashlib
import subprocess

from pipeline.registry.versions import Published, part_of
from processing.errors import BadInput

CONTRACT_KEY = "contract.toml"
PACKED = "scorer.npz"
CHECK_SECONDS = 300.0


class WouldNotServe(BadInput):
    """The version would be refused by the API of its home."""


def check_in_process(found: Published) -> None:
    """Load a version as the API of its home would that starts now. Raises WouldNotServe with the API's reason."""
    from processing.processes import children

    command = children.module_command(
        "serving.decision.check_version", "--home", found.home.url, "--version", found.version
    )
    try:
        done = children.run(command, timeout=CHECK_SECONDS, env=children.child_environment())
    except subprocess.TimeoutExpired:
        raise WouldNotServe(
            f"version {found.version} was not loaded within {CHECK_SECONDS:.0f} s; nothing was changed"
        ) from None
    if done.returncode:
        said = (done.stderr.strip().splitlines() or [f"the process that loads it ended with code {done.returncode}"])[
            -1
        ]
        raise WouldNotServe(f"nothing was changed, the API would refuse it: {said.removeprefix('error: ')}")


def check_manifest(found: Published, *, packed_only: bool) -> None:
    """Hold what a version's manifest says against its home. Raises WouldNotServe, and NotFound without a contract.

    Whether another contract than the home's would do cannot be told from here, so it is refused; the command, which
    loads the version, can tell.
    """
    named = f"`fraudline models promote {found.version} --home {found.home.url}`"
    trained, text = part_of(found.manifest, "contract"), found.home.read(CONTRACT_KEY)
    if trained.get("digest") != hashlib.sha256(text.replace(b"\r\n", b"\n")).hexdigest():
        raise WouldNotServe(
            f"version {found.version} was trained under another contract than {found.home.url_of(CONTRACT_KEY)} is "
            f"now; nothing was changed. Run the pipeline again, or try {named}, which loads it to see"
        )
    if not isinstance(found.manifest.get("features"), list) or not isinstance(found.manifest.get("threshold"), float):
        raise WouldNotServe(f"the manifest of version {found.version} lacks its features or its threshold")
    if packed_only and PACKED not in found.files:
        raise WouldNotServe(
            f"version {found.version} has no packed scorer, and this deployment loads packed models only; nothing was "
            "changed. `fraudline deploy --allow-joblib` allows others, or promote a packed model"
        )
