"""The training step: reads the features of the training window, fits a model, saves it with its record."""

from pipeline.data import dataset
from pipeline.estimators.trees import Hyperparameters
from pipeline.evaluation import threshold
from pipeline.steps import container
from pipeline.training.fit import days_of, save, train
from processing.contracts import reader as contracts


def main() -> None:
    """The step. Any failure ends it with exit code 1 and its reason in the container's failure file."""
    with container.reported_failures():
        contract = contracts.load(container.channel("contract") / "contract.toml")
        given = container.hyperparameters()
        alerts_per_day = threshold.budget_of(given.pop("alerts_per_day", "0"))
        hyperparameters = Hyperparameters.from_strings(given)
        rows = dataset.read(container.channel("train"), contract)
        print(f"read {rows.rows} rows, {rows.frauds} frauds, {days_of(rows.day)}", flush=True)
        model, training = train(rows, contract, hyperparameters, alerts_per_day)
        save(container.model_dir(), model, training, rows)


if __name__ == "__main__":
    main()
