"""Run the check `pipeline.infrastructure.verify.iam_roles` on the deployed system."""

import sys

from pipeline.infrastructure.verify.run_check import run_check

if __name__ == "__main__":
    sys.exit(run_check("iam_roles", sys.argv[1:]))
