"""The Train step: `python3 -m pipeline.steps.train`, under SageMaker's container contract.

Reads the channels `train` (a folder of Parquet files, see `pipeline.data.dataset`), `contract` (contract.toml) and
`code` (code.zip, the modules that an experiment brings along, see `pipeline.estimators.own_code`), and the job's
hyperparameters. Leaves `model.joblib`, `training.json` and, if the model can be packed, `scorer.npz` in the model
folder (`pipeline.scorer.bundle`). Arrays are not code, so the later steps measure and serve them without running
anything that training made.
"""

from pipeline.data import dataset
from pipeline.estimators.hyperparameters import Hyperparameters
from pipeline.estimators.own_code import OwnCode
from pipeline.evaluation import threshold
from pipeline.scorer.bundle import ModelBundle
from pipeline.steps import container
from pipeline.training.fit import train
from processing.contracts import reader as contracts
from processing.storage.run_code import CODE_FILE


def main() -> None:
    """Run the step. A failure ends it with exit code 1 and the reason in the container's failure file."""
    with container.reported_failures():
        contract = contracts.load(container.channel("contract") / "contract.toml")
        settings = container.hyperparameters()
        alerts_per_day = threshold.parse_budget(settings.pop("alerts_per_day", "0"))
        hyperparameters = Hyperparameters.from_strings(settings)
        rows = dataset.read(container.channel("train"), contract)
        print(f"read {rows.rows} rows, {rows.frauds} frauds, {rows.period}", flush=True)
        code = OwnCode.from_bytes((container.channel("code") / CODE_FILE).read_bytes())
        if code.files:
            print(f"own code {code.digest}: {', '.join(sorted(code.files))}", flush=True)
        with code.importable():
            model, training = train(rows, contract, hyperparameters, alerts_per_day)
            bundle = ModelBundle.of_model(model, training, rows.X, code)
        print(f"scorer {bundle.kind}: {bundle.scorer_reason}", flush=True)
        bundle.write(container.model_dir())
        print(f"wrote the model to {container.model_dir()}", flush=True)


if __name__ == "__main__":
    main()
