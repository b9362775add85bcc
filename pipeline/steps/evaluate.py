"""The Evaluate step, a SageMaker processing job.

    python3 -m pipeline.steps.evaluate --home H --run R --floor F [--confidence C] [--margin M] [--lookback-days D]
        [--forced-by WHO]

Reads the challenger that the Train step delivered (processing/model/model.tar.gz), the test rows (processing/test), the
contract (processing/contract) and the code that the run brought along (processing/code). Evaluates and publishes the
challenger (`pipeline.evaluation.evaluation`), and leaves processing/evaluation/evaluation.json for the pipeline's
conditions. That document names the published manifest by its digest, so that what is promoted is what was evaluated.

A joblib model has to be unpickled, which runs code that training made, and imports what the run brought along. That is
refused if FRAUDLINE_MODELS is `packed`, as it is in AWS unless joblib models were allowed at deployment. A packed model
is evaluated without reading its joblib file or importing anything of the run's.
"""

import argparse
import json
from collections.abc import Sequence

from pipeline.data import dataset
from pipeline.definition.requests import EVALUATION_FILE
from pipeline.estimators.own_code import OwnCode
from pipeline.evaluation.evaluation import evaluate
from pipeline.evaluation.gate_rules import GateRules
from pipeline.evaluation.run_rows import RunRows
from pipeline.registry.registry import Registry
from pipeline.registry.versions import packed_only
from pipeline.scorer.bundle import ModelBundle
from pipeline.steps import container
from processing.contracts import reader as contracts
from processing.storage.open import open_home
from processing.storage.run_code import CODE_FILE


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the step. A failure ends it with exit code 1 and the reason in the container's failure file."""
    with container.reported_failures():
        options = _parser().parse_args(arguments)
        rules = GateRules(options.floor, options.confidence, options.margin, options.forced_by, options.lookback_days)
        contract = contracts.load(container.processing_path("contract") / "contract.toml")
        code = OwnCode.from_bytes((container.processing_path("code") / CODE_FILE).read_bytes())
        bundle = ModelBundle.from_archive(container.processing_path("model") / "model.tar.gz", code)
        bundle.check(contract, packed_only=packed_only())
        test = dataset.read(container.processing_path("test"), contract)
        print(f"read {test.rows} test rows, {test.frauds} frauds", flush=True)
        home = open_home(options.home)
        registry = Registry(home)
        rows = RunRows(home, options.run, contract, test)
        evaluation = evaluate(registry, rows, bundle, rules, packed_only=packed_only())
        version = evaluation.publish(registry)
        print(f"published version {version}", flush=True)
        document = {"version": version, "manifest": registry.open(version).digest, **evaluation.results}
        folder = container.processing_path("evaluation")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / EVALUATION_FILE).write_text(json.dumps(document, indent=2), encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    rules = GateRules()
    parser = argparse.ArgumentParser(prog="python3 -m pipeline.steps.evaluate")
    parser.add_argument("--home", required=True, help="address of the home")
    parser.add_argument("--run", required=True, help="id of the pipeline run")
    parser.add_argument("--floor", required=True, type=float, help="lowest average precision that may serve")
    parser.add_argument("--confidence", default=rules.confidence, type=float, help="confidence that it is no worse")
    parser.add_argument("--margin", default=rules.margin, type=float, help="how much worse still counts as no worse")
    parser.add_argument(
        "--lookback-days", default=rules.lookback_days, type=int, help="compare with versions that served in these days"
    )
    parser.add_argument("--forced-by", default="", help="who lets the model serve whatever the gate decides")
    return parser


if __name__ == "__main__":
    main()
