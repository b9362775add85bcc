"""An experiment: another contract or other hyperparameters for a home, compared with its champion, then run.

    experiment = Experiment(home).with_entity("customer", windows=["1h", "1d", "7d"])
    experiment = experiment.with_feature("amount_to_mean", "amount / customer.amount_mean_7d")
    print(experiment.compare(folds=4))
    experiment.apply_and_run()

Nothing is stored before the last call. An experiment never changes: each `with_...` returns another one.
"""

from copy import copy
from dataclasses import asdict, dataclass, field
from datetime import date
from typing import Any

import pyarrow as pa
from rich.console import Console

from pipeline.definition.defaults import HYPERPARAMETERS
from pipeline.estimators.hyperparameters import Hyperparameters
from pipeline.estimators.own_code import NO_CODE, OwnCode
from pipeline.evaluation.bootstrap import ModelScores
from pipeline.experiments.comparison import (
    Candidate,
    FoldComparison,
    Folds,
    changes_between,
    check_same_rows,
    choose_folds,
    measure_folds,
    score_folds,
)
from pipeline.experiments.contract_text import with_table, without_table
from pipeline.experiments.home_rows import HomeRows
from pipeline.infrastructure.target import Target, deployed_outputs, find_target
from pipeline.registry.registry import Registry
from pipeline.runs.aws_run import run_on_aws
from pipeline.runs.local_run import run_and_report
from pipeline.runs.own_code import code_parameter, pack
from pipeline.training.search import as_hyperparameters
from processing.contract import Contract
from processing.contracts.contract_change import ContractChange
from processing.contracts.home_contract import pending, propose
from processing.contracts.model_contract import training_contract
from processing.contracts.reader import of_home, parse
from processing.errors import BadInput
from processing.split import EPOCH
from processing.storage.home import Home
from processing.storage.local import LocalHome
from processing.storage.open import open_home


@dataclass(frozen=True)
class Champion:
    """What a home's serving model was trained from. Each comparison trains it again, on the days before each fold.

    version: None if no model serves; then a model of the home's contract with the default hyperparameters
    """

    version: str | None
    candidate: Candidate
    _scored: dict[object, tuple[Any, list[ModelScores]]] = field(default_factory=dict, repr=False)

    @classmethod
    def of_home(cls, home: Home) -> "Champion":
        """Raises BadInput if this code cannot train the serving model again."""
        latest = Registry(home).latest()
        if latest is None:
            return cls(None, Candidate(of_home(home), Hyperparameters()))
        published = Registry(home).open(latest.version, latest)
        manifest = published.manifest
        settings = {name: str(value) for name, value in manifest.get("hyperparameters", {}).items()}
        contract, archive = training_contract(manifest, latest.version), published.own_code()
        code = OwnCode.from_bytes(archive) if archive else NO_CODE
        return cls(latest.version, Candidate(contract, Hyperparameters.from_strings(settings), code))

    @property
    def name(self) -> str:
        """Its version, or what stands for it."""
        return self.version or "none serves; a model of the home's contract with the default hyperparameters"

    def score(self, rows: HomeRows, folds: Folds) -> tuple[Any, list[ModelScores]]:
        """The ids of all rows, and its scores on each fold; computed once for the same folds and rows."""
        key = (folds, rows.snapshot(self.candidate.contract))
        if key not in self._scored:
            data, scored = score_folds(rows, self.candidate, folds)
            self._scored[key] = data.ids, scored
        return self._scored[key]


class Experiment:
    """A contract and hyperparameters to try in a home.

    It starts with the contract of the home's next run and the champion's hyperparameters. Raises BadInput if the home
    has no contract yet.
    """

    def __init__(self, home: Home) -> None:
        self.home = home
        self.champion = Champion.of_home(home)
        self.candidate = self.champion.candidate._replace(contract=pending(home) or of_home(home))
        self._rows = HomeRows(home)

    @property
    def contract(self) -> Contract:
        """The contract that the features are computed and the model is trained under."""
        return self.candidate.contract

    @property
    def settings(self) -> dict[str, str]:
        """The hyperparameters other than the defaults, as parameters of the pipeline."""
        default = asdict(Hyperparameters())
        values = asdict(self.candidate.hyperparameters)
        return {HYPERPARAMETERS[key][0]: str(value) for key, value in values.items() if value != default[key]}

    @property
    def change(self) -> ContractChange:
        """What the contract changes in the home, what that costs, and why it is refused if it is."""
        return ContractChange(of_home(self.home), self.contract)

    def with_contract(self, text: str) -> "Experiment":
        """The experiment with the contract in a TOML text. Raises BadInput."""
        return self._with(self.candidate._replace(contract=parse(text)))

    def with_entity(self, name: str, **entries: Any) -> "Experiment":
        """With other entries of an entity, such as windows=["1h", "7d"], or with a further entity.

        The entries are those of an [[entity]] table; None removes one. Raises BadInput as the contract's reader does.
        """
        return self.with_contract(with_table(self.contract.text, "entity", name, entries))

    def with_feature(self, name: str, expression: str, says: str | None = None) -> "Experiment":
        """With a declared feature: a new one, or a present one by another expression. Raises BadInput.

        says: how its value reads as a reason
        """
        return self.with_contract(with_table(self.contract.text, "feature", name, {"is": expression, "says": says}))

    def without(self, name: str) -> "Experiment":
        """Without an entity or a declared feature. Raises BadInput, also if another feature needs it."""
        return self.with_contract(without_table(self.contract.text, name))

    def with_settings(self, **settings: object) -> "Experiment":
        """With other hyperparameters, by their names as parameters of the pipeline. Raises BadInput.

        Estimator: see `with_estimator`
        """
        texts, code = self.settings | {name: str(value) for name, value in settings.items()}, self.candidate.code
        if "Estimator" in settings:
            texts["Estimator"], code = pack(texts["Estimator"])
        return self._with(self.candidate._replace(hyperparameters=as_hyperparameters(texts), code=code))

    def with_estimator(self, estimator: str) -> "Experiment":
        """With another estimator, and its own code as it is now. Raises BadInput.

        estimator: `module:factory`, or `path:factory` with the path of a .py file or of a package's folder. It comes
            with the modules beside it that it imports (`pipeline.runs.own_code`). The factory takes the hyperparameters
            and returns an unfitted classifier (`pipeline.estimators.factory`).
        """
        return self.with_settings(Estimator=estimator)

    def features(self, first: date | None = None, last: date | None = None) -> pa.Table:
        """The home's transactions from the first to the last day (UTC) with the features of the contract.

        The columns are those of a features table, the values those that a run would compute. Default: all days. Besides
        the result, memory holds the transactions of no more than twice the lookback. Raises BadInput if the stored
        transactions lack a column that the contract needs.
        """
        days = self._rows.days(self.contract)
        start = days.start if first is None else max(days.start, (first - EPOCH).days)
        stop = days.stop if last is None else min(days.stop, (last - EPOCH).days + 1)
        return self._rows.features(self.contract, range(start, stop))

    def compare(self, folds: int = 4) -> FoldComparison:
        """The experiment and the champion on the last `folds` weeks before the next run's test days, at most.

        Both are trained for each fold on the days that end a label delay before it. The champion keeps its own
        contract and hyperparameters; alerts and costs are measured by the experiment's contract. Raises BadInput if the
        home has too little data for a fold.
        """
        theirs = self.champion.candidate
        chosen = choose_folds(self._rows, self.contract, theirs.contract, folds)
        data, scored = score_folds(self._rows, self.candidate, chosen)
        ids, champion = self.champion.score(self._rows, chosen)
        check_same_rows(data, ids)
        refusals = [f"a run would refuse the contract: {why}" for why in self.change.refusals]
        return FoldComparison(
            self.champion.name,
            chosen.folds,
            measure_folds(data, self.contract, chosen.folds, scored),
            measure_folds(data, self.contract, chosen.folds, champion),
            (*changes_between(theirs, self.candidate), *refusals),
        )

    def apply_and_run(self, console: Console | None = None, **parameters: str) -> dict[str, Any]:
        """Propose the contract, as `fraudline contract apply` does, and run the pipeline; its result.

        The run is on this machine for a home in a folder, else of the deployed pipeline. Its gate decides whether the
        model serves. If the run fails, the contract stays proposed for the next one.

        parameters: of the pipeline, besides the hyperparameters

        Raises BadInput if the home's transactions rule the contract out or the deployed pipeline has another home, and
        what the run raises.
        """
        console = console or Console()
        target = None if isinstance(self.home, LocalHome) else self._target()
        change = propose(self.home, self.contract)
        for line in change.lines:
            console.print(line, markup=False, highlight=False)
        settings = self.settings | code_parameter(self.home, self.candidate.code) | parameters
        if target:
            return run_on_aws(target, settings, console)
        assert isinstance(self.home, LocalHome)
        return run_and_report(self.home, console, settings)

    def _target(self) -> Target:
        """The deployed stack. Raises BadInput if its home is another one."""
        target = find_target()
        deployed = open_home(deployed_outputs(target)["HomeUrl"]).url
        if deployed != self.home.url:
            raise BadInput(f"the experiment is in {self.home.url}, but the deployed pipeline runs in {deployed}")
        return target

    def _with(self, candidate: Candidate) -> "Experiment":
        other = copy(self)
        other.candidate = candidate
        return other
