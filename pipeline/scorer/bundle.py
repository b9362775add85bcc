"""A trained model as one bundle: what training delivers, evaluation measures and the registry publishes.

    model.joblib     the fitted model; reading it runs code
    scorer.npz       the model as arrays, if they give the same scores, bit for bit; reading them runs nothing
    training.json    the record of the training, with what the model requires and why it is packed or not
    code.zip         the modules that the run brought along; it does not come from training

What is scored is what will serve: the arrays if there are any. The joblib file is then never read.
"""

import json
import tarfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any, Self

import joblib

from pipeline.estimators.joblib_file import read_joblib
from pipeline.estimators.own_code import NO_CODE, OwnCode
from pipeline.estimators.predict import scores
from pipeline.registry.requirements import LOCAL_MODULES, REQUIREMENTS, requirements_of
from pipeline.registry.versions import CODE_FILE, MODEL_FILE
from pipeline.scorer.arrays_file import COVER, SCORER_FILE, read_arrays
from pipeline.scorer.forest import PackedScorer
from pipeline.scorer.packing import pack_and_prove
from processing.arrays import Floats
from processing.contract import Contract
from processing.errors import BadInput
from processing.storage.documents import parse_document

TRAINING_FILE = "training.json"
PROOF_ROWS = 100_000  # the latest training rows, on which the scorer is proven
PACKED, JOBLIB = "packed", "joblib"
NOT_PACKED = "it was not packed"


@dataclass(frozen=True)
class ModelBundle:
    """A model with its record.

    model, scorer: the bytes of model.joblib and of scorer.npz, None if the model could not be packed
    training: the content of training.json
    code: the modules that the run brought along
    """

    model: bytes
    scorer: bytes | None
    training: dict[str, Any]
    code: OwnCode = NO_CODE

    @classmethod
    def of_model(cls, model: Any, training: Mapping[str, Any], rows: Floats, code: OwnCode = NO_CODE) -> Self:
        """The bundle of a fitted model, packed if that is proven on the latest of these rows and on edge cases."""
        packing = pack_and_prove(model, rows[-PROOF_ROWS:])
        kind = PACKED if packing.scorer else JOBLIB
        file = BytesIO()
        joblib.dump(model, file)
        required = requirements_of(model)
        required[LOCAL_MODULES] = [name for name in required[LOCAL_MODULES] if name.partition(".")[0] not in code.roots]
        record = {**training, **required, "scorer": kind, "scorer_reason": packing.reason}
        return cls(file.getvalue(), packing.scorer, record, code)

    @classmethod
    def from_archive(cls, archive: Path, code: OwnCode = NO_CODE) -> Self:
        """The bundle in a model.tar.gz, with the code of its run. Raises BadInput if a file is missing."""
        try:
            with tarfile.open(
                archive
            ) as tar:  # nothing is unpacked: only these members are read, whatever else there is
                members = {PurePosixPath(member.name): member for member in tar if member.isfile()}
                model, text = (_content(tar, members, name) for name in (MODEL_FILE, TRAINING_FILE))
                scorer = _content(tar, members, SCORER_FILE) if PurePosixPath(SCORER_FILE) in members else None
        except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
            raise BadInput(f"{archive} does not contain {MODEL_FILE} and {TRAINING_FILE}: {error}") from None
        return cls(model, scorer, parse_document(text, f"{TRAINING_FILE} in {archive}", "train again"), code)

    def write(self, folder: Path) -> None:
        """Write the files into the folder that SageMaker delivers as model.tar.gz."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in self._trained.items():
            (folder / name).write_bytes(data)
        (folder / TRAINING_FILE).write_text(json.dumps(self.training, indent=2), encoding="utf-8")

    @property
    def files(self) -> dict[str, bytes]:
        """The files that the registry publishes, by name."""
        return self._trained | ({CODE_FILE: self.code.to_bytes()} if self.code.files else {})

    @property
    def _trained(self) -> dict[str, bytes]:
        return {MODEL_FILE: self.model} | ({SCORER_FILE: self.scorer} if self.scorer else {})

    @property
    def kind(self) -> str:
        """Which file serves: packed or joblib."""
        return PACKED if self.scorer else JOBLIB

    @property
    def scorer_reason(self) -> str:
        """Why the model is packed, or why not."""
        return str(self.training.get("scorer_reason", NOT_PACKED))

    @property
    def requirements(self) -> list[str]:
        """What a process needs in order to serve the model, in words; nothing for a packed one."""
        if self.scorer:
            return []
        libraries = [f"{name} {version}" for name, version in self.training.get(REQUIREMENTS, {}).items()]
        return libraries + [f"the module {name}" for name in self.training.get(LOCAL_MODULES, ())]

    @property
    def explains(self) -> bool:
        """Whether the model gives reasons for its decisions."""
        return self.scorer is not None and COVER in read_arrays(self.scorer)

    def check(self, contract: Contract, *, packed_only: bool) -> None:
        """Raise BadInput if the model was trained under another contract or may not be loaded here."""
        trained = self.training["contract"]
        if trained["digest"] != contract.digest:
            raise BadInput(
                f"the model was trained under the contract {trained['name']!r} ({trained['digest'][:12]}), but the "
                f"test rows follow {contract.name!r} ({contract.digest[:12]}); train again under this contract"
            )
        if packed_only and self.scorer is None:
            raise BadInput(
                "the model is a joblib file, which runs as code when it is loaded, and only packed models may be "
                f"loaded here ({self.scorer_reason}): choose an estimator that can be packed, or set "
                "FRAUDLINE_MODELS=any (in AWS: `fraudline deploy --allow-joblib`)"
            )

    def scores(self, rows: Floats) -> Floats:
        """The scores of rows, [n, m] to [n], the same as in service. Raises BadInput, UnusableScorer."""
        try:
            return self._score(rows)
        except ValueError as error:
            raise BadInput(f"the model cannot score the rows: {error}; train again") from error

    @cached_property
    def _score(self) -> Callable[[Floats], Floats]:
        if self.scorer is not None:
            return PackedScorer.from_bytes(self.scorer).scores
        return partial(scores, read_joblib(self.model, self.code.to_bytes()))


def _content(tar: tarfile.TarFile, members: Mapping[PurePosixPath, tarfile.TarInfo], name: str) -> bytes:
    file = tar.extractfile(members[PurePosixPath(name)]) if PurePosixPath(name) in members else None
    if file is None:
        raise FileNotFoundError(f"it has no {name}")
    return file.read()
