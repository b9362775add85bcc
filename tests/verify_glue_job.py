"""Run the check `pipeline.infrastructure.verify.glue_job` on the deployed system."""

import sys

from pipeline.infrastructure.verify.run_check import run_check

if __name__ == "__main__":
    sys.exit(run_check("glue_job", sys.argv[1:]))
