"""Run the check `pipeline.infrastructure.verify.lambda_function` on the deployed system."""

import sys

from pipeline.infrastructure.verify.run_check import run_check

if __name__ == "__main__":
    sys.exit(run_check("lambda_function", sys.argv[1:]))
