"""The code of the Lambda functions, as one folder that all of them share."""

import shutil
from importlib.util import find_spec
from pathlib import Path

from processing.errors import FraudlineError

ROOT = Path(__file__).parents[2]
SHIPPED = (  # the modules that the functions import; nothing else of the packages is shipped
    "pipeline/__init__.py",
    "pipeline/definition/__init__.py",
    "pipeline/definition/glue_statuses.py",
    "pipeline/metric_names.py",
    "pipeline/registry/__init__.py",
    "pipeline/registry/listing.py",
    "pipeline/registry/pointer.py",
    "pipeline/registry/promotion.py",
    "pipeline/registry/registry.py",
    "pipeline/registry/servable.py",
    "pipeline/registry/versions.py",
    "processing/__init__.py",
    "processing/intake/__init__.py",
    "processing/intake/file_names.py",
    "processing/storage/__init__.py",
    "processing/storage/address.py",
    "processing/storage/local.py",
    "processing/storage/open.py",
    "processing/aws_client.py",
    "processing/storage/documents.py",
    "processing/errors.py",
    "processing/storage/home.py",
    "processing/storage/s3.py",
    "processing/storage/scratch.py",
    "triggers/__init__.py",
    "triggers/functions/__init__.py",
    "triggers/functions/approve.py",
    "triggers/functions/finish_features.py",
    "triggers/functions/function_settings.py",
    "triggers/functions/glue_runs.py",
    "triggers/functions/model_age.py",
    "triggers/functions/promote.py",
    "triggers/functions/sagemaker_runs.py",
    "triggers/functions/start_features.py",
    "triggers/functions/start_run.py",
)
POWERTOOLS = ("aws_lambda_powertools", "jmespath", "typing_extensions")  # with what it imports; Lambda brings boto3


def package(folder: Path) -> str:
    """Copy the functions' code into a folder, with Powertools and what it imports; returns the folder's path.

    All of it is plain Python, so copies of what is installed here also run in Lambda.
    """
    for name in SHIPPED:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, folder / name)
    for name in POWERTOOLS:
        spec = find_spec(name)
        if not spec or not spec.origin:
            raise FraudlineError(f"{name} is not installed; the Lambda functions need it: run `make setup`")
        source = Path(spec.origin)
        if source.name == "__init__.py":
            shutil.copytree(source.parent, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source, folder / source.name)
    return str(folder)
